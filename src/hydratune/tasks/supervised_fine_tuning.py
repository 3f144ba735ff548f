"""Supervised fine-tuning on answers to prompts, or on the assistant's turns of chats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.columns import BadRow, Column
from hydratune.tasks.base import EncodedData, EvalSplit
from hydratune.tasks.chat_template import SIMPLE, apply_template, check_chat, encode_chat
from hydratune.tasks.chats import FORMS, ChatError, Message, complete_forms, messages_of, tools_of
from hydratune.tasks.language_modeling import PERPLEXITY, TOKEN_ACCURACY, CausalTask, mean_scores, select_metrics
from hydratune.tasks.metrics.metric import Metric
from hydratune.tasks.tokenize import IGNORED, Batch, encode_splits
from hydratune.utils.errors import KEY, ConfigError, Problem

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction


@dataclass(kw_only=True)
class SupervisedFineTuning(CausalTask):
    """Supervised fine-tuning on chats in a form of `hydratune.tasks.chats`; the loss is on the answers only.

    The forms are `messages` (a list of {role, content, tool_calls}), ShareGPT's `conversations`, `prompt` and
    `completion`, and Alpaca's `instruction`, `input`, and `output`. Each may also have `system` and `tools`.

    An answer is the text that the template puts between `{% generation %}` and `{% endgeneration %}`. In a template
    without them, it is the text after the opening of an answer, up to the end of the assistant's turn, including the
    end token.

    Args:
        chat_template: `simple`, or a Jinja template; null for the tokenizer's own.
        excess_length: Treatment of examples over `max_length` tokens: `drop`, `truncate`, or `error`. They are
            counted.

    Example:
        >>> SupervisedFineTuning(metrics=["perplexity"], chat_template="simple").objectives()
        ['eval_loss', 'eval_perplexity']
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "prompt": Column("optional", required=False),
        "completion": Column("optional", required=False, target=True),
        "messages": Column("optional", required=False),
        "conversations": Column("optional", required=False),
        "instruction": Column("optional", required=False),
        "input": Column("optional", required=False),
        "output": Column("optional", required=False, target=True),
        "system": Column("optional", required=False),
        "history": Column("optional", required=False),
        "tools": Column("optional", required=False),
    }
    inputs: ClassVar[tuple[str, ...]] = tuple(name for name, column in columns.items() if not column.target)
    known_metrics: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, TOKEN_ACCURACY)
    needs_fast: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["perplexity"])
    objective: str = "eval_perplexity"
    chat_template: str | None = None
    excess_length: Literal["drop", "truncate", "error"] = "drop"
    _tokenizer: Any = field(default=None, init=False, repr=False, compare=False)

    def check_processor(self, processor: Any) -> None:
        """Also require a chat template. After this call, `bad_rows` also tries the template on each row."""
        super().check_processor(processor)
        self._set_template(processor)
        self._tokenizer = processor

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield chats that cannot be converted, have no answer, or that the chat template rejects."""
        for split, rows in splits.items():
            self._check_form(split, rows.column_names)
        yield from super().bad_rows(splits, label_names)
        for split, rows in splits.items():
            yield from self._bad_chats(split, rows, answered=True)

    def bad_inputs(self, rows: Dataset) -> Iterator[BadRow]:
        """Return chats that cannot be converted or that the chat template rejects; they need no answer."""
        if not any(form[0] in rows.column_names for form in FORMS):
            settings = [f"{KEY}.{form[0]}=COLUMN" for form in FORMS]
            hint = f"set {', '.join(settings[:-1])}, or {settings[-1]}"
            text = f"{KEY} names no column of prompts; the data has the columns {rows.column_names}"
            raise ConfigError(Problem("dataset.columns", text, hint))
        return self._bad_chats("train", rows, answered=False)

    def _check_form(self, split: str, names: Sequence[str]) -> None:
        """Raise ConfigError unless a split has chats in exactly one form."""
        forms = complete_forms(names)
        if not forms:
            known_forms = ", or ".join(" and ".join(form) for form in FORMS)
            text = f"{KEY} must name {known_forms}, but {split} has only {sorted(names)}"
            hint = f"set {KEY}.messages=COLUMN\nset {KEY}.prompt=COLUMN {KEY}.completion=COLUMN"
            raise ConfigError(Problem("dataset.columns", text, hint))
        if len(forms) > 1:
            names_of_forms = "; ".join(" and ".join(form) for form in forms)
            text = f"{KEY} has chats in several forms in {split}: {names_of_forms}"
            raise ConfigError(Problem("dataset.columns", text, f"set {KEY}.{forms[1][0]}=null to ignore one of them"))

    def _bad_chats(self, split: str, rows: Dataset, answered: bool) -> Iterator[BadRow]:
        for number, row in enumerate(rows):
            try:
                messages, tools = messages_of(row), tools_of(row)
                if not answered:
                    messages = _unanswered(messages)
                    if not messages:
                        raise ChatError("messages", "no message to answer")
                elif not any(message["role"] == "assistant" for message in messages):
                    raise ChatError("messages", "no assistant message", messages)
                if self._tokenizer is not None:
                    check_chat(self._tokenizer, messages, tools, answered)
            except ChatError as error:
                column = error.column if error.column in row else next(form[0] for form in FORMS if form[0] in row)
                yield BadRow(split, number, column, error.text, error.hint, error.value)

    def prompts(self, batch: Batch, processor: Any) -> list[list[int]]:
        """Return the tokens of each chat up to the opening of an answer, without a last turn of the assistant."""
        self._set_template(processor)
        options = {"tokenize": False, "add_generation_prompt": True}
        texts = [
            apply_template(processor, _unanswered(messages_of(row)), tools_of(row), **options)
            for row in _rows_of(batch)
        ]
        return processor(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def ends(self, processor: Any) -> list[int]:
        """Return the end token, and the token with which the template ends an answer."""
        self._set_template(processor)
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
        end_token = [label for label in encode_chat(processor, turns, None)["labels"] if label != IGNORED][-1]
        special_tokens = {*processor.added_tokens_decoder, *processor.all_special_ids}
        return sorted({*([end_token] if end_token in special_tokens else []), processor.eos_token_id} - {None})

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> EncodedData:
        """Return rows of `input_ids` and `labels`, which are ignored outside answers."""
        self._set_template(processor)

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            rows = [encode_chat(processor, messages_of(row), tools_of(row)) for row in _rows_of(batch)]
            columns = {name: [row[name] for row in rows] for name in ("input_ids", "labels")}
            answer_starts = [
                next((i for i, label in enumerate(row) if label != IGNORED), len(row)) for row in columns["labels"]
            ]
            return columns | {"length": [len(row) for row in columns["labels"]], "answer": answer_starts}

        key = {"task": "supervised_fine_tuning/3", "template": processor.chat_template}
        encoded = encode_splits(splits, encode, processor, key)
        return self._shortened(encoded, max_length)

    def _set_template(self, tokenizer: Any) -> None:
        """Set the template, which is then saved with the tokenizer; raise ConfigError if it is missing."""
        if self.chat_template is not None:
            tokenizer.chat_template = SIMPLE if self.chat_template == "simple" else self.chat_template
        if tokenizer.chat_template is None:
            hint = f"set {KEY}=simple, or to a Jinja template"
            raise ConfigError(Problem("task.chat_template", "the tokenizer of this model has no chat template", hint))

    def _shortened(self, encoded: DatasetDict, max_length: int | None) -> EncodedData:
        """Return rows of at most `max_length` tokens, each with a part of an answer, and a report on long rows."""
        splits, messages = type(encoded)(), []
        for split, rows in encoded.items():
            long_count = sum(length > max_length for length in rows["length"]) if max_length else 0
            if long_count and self.excess_length == "error":
                text = f"{long_count:,} of {len(rows):,} examples of {split} are over {max_length} tokens"
                raise ConfigError(Problem("task.excess_length", text, f"set {KEY}=drop or {KEY}=truncate"))
            last_positions = (
                rows["answer"] if self.excess_length == "truncate" else [length - 1 for length in rows["length"]]
            )
            selected = rows.select(
                [i for i, position in enumerate(last_positions) if not max_length or position < max_length]
            )
            if long_count and self.excess_length == "truncate":
                selected = selected.map(_cut, fn_kwargs={"length": max_length}, desc=f"truncating {split}")
            if not len(selected):
                raise ConfigError(self._nothing_left(split, len(rows), max_length))
            if long_count:
                dropped_count = len(rows) - len(selected)
                summary = f"{dropped_count:,} dropped" + (
                    f", {long_count - dropped_count:,} truncated" if self.excess_length == "truncate" else ""
                )
                messages.append(
                    f"{long_count:,} of {len(rows):,} examples of {split} are over {max_length} tokens: {summary}"
                )
            splits[split] = selected.remove_columns(["length", "answer"])
        return EncodedData(splits, {}, messages)

    def _nothing_left(self, split: str, count: int, max_length: int | None) -> Problem:
        """Return the error for a split whose examples, `count` in number, are all too long."""
        hints = [f"raise {KEY}"] if self.max_length is not None else []
        if self.excess_length == "truncate":
            text = f"none of the {count:,} examples of {split} has an answer in its first {max_length} tokens"
        else:
            text = f"all {count:,} examples of {split} are over {max_length} tokens"
            hints.append("set task.excess_length=truncate")
        return Problem("task.max_length", text, "\n".join(hints))

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest: `input_ids`, `attention_mask`, `labels` (batch, seq) int64."""
        from transformers import DataCollatorForSeq2Seq

        return DataCollatorForSeq2Seq(processor)

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics that the config names, over the tokens of the answers."""
        return select_metrics(mean_scores(prediction.predictions), self.metrics)

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:
        """Return a prompt in the template, up to the start of an answer; empty for a chat that is one answer."""
        messages = messages_of(row)
        # A chat may begin with an answer, before which there is no prompt.
        end = next((i for i, message in enumerate(messages) if i and message["role"] == "assistant"), 0)
        if not end:
            return {}
        options = {"tokenize": False, "add_generation_prompt": True}
        return {"text": apply_template(processor, messages[:end], tools_of(row), **options)}


def _cut(row: Mapping[str, Any], length: int) -> dict[str, Any]:
    return {name: row[name][:length] for name in ("input_ids", "labels")}


def _unanswered(messages: list[Message]) -> list[Message]:
    """Return a chat without its last turn if that is an answer."""
    return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages


def _rows_of(batch: Batch) -> Iterator[dict[str, Any]]:
    """Return the rows of a batch of columns."""
    return (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
