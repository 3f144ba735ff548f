"""Answers to prompts, or the assistant's turns of a chat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.rows import BadRow, Column, shown
from hydratune.errors import ConfigError, Mistake, one_line
from hydratune.tasks.base import Evaluated, Prepared
from hydratune.tasks.encode import IGNORED, Batch, encode_splits
from hydratune.tasks.language_modeling import LeftToRight, chosen, mean_scores

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction

ROLES = ("system", "user", "assistant", "tool")
# For tokenizers without a template of their own. An answer ends with the end token, where generation stops.
SIMPLE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(kw_only=True)
class SupervisedFineTuning(LeftToRight):
    """Columns `prompt` and `completion`, or `messages`: a list of {role, content}. Loss on the answers only.

    Answers are what the template puts between `{% generation %}` and `{% endgeneration %}`. In a template without,
    they reach from where the template opens an answer to where the assistant's turn ends, its end token included.

    Args:
        chat_template: `simple`, or a Jinja template; null for the tokenizer's own.
        on_long: What becomes of examples over `max_length` tokens: `drop`, `truncate` or `error`; counted anyway.
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "prompt": Column("text", required=False),
        "completion": Column("text", required=False, target=True),
        "messages": Column("any", required=False),
    }
    inputs: ClassVar[tuple[str, ...]] = ("prompt", "messages")
    known_metrics: ClassVar[tuple[str, ...]] = ("perplexity", "accuracy")
    needs_fast: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["perplexity"])
    objective: str = "eval_perplexity"
    chat_template: str | None = None
    on_long: Literal["drop", "truncate", "error"] = "drop"

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Adds: chats without an answer, turns of unknown roles or without content."""
        for rows in splits.values():
            names = {*rows.column_names}
            if "messages" not in names and not {"prompt", "completion"} <= names:
                fix = "Set dataset.columns.prompt and dataset.columns.completion, or dataset.columns.messages."
                raise ConfigError(
                    Mistake("dataset.columns", "prompt and completion, or messages", f"{sorted(names)}", fix)
                )
        yield from super().bad_rows(splits, label_names)
        for split, rows in splits.items():
            if "messages" in rows.column_names:
                for row, messages in enumerate(rows["messages"]):
                    if wrong := _odd_chat(messages or []):
                        yield BadRow(split, row, "messages", *wrong, "Correct or drop the row.")

    def bad_inputs(self, rows: Dataset) -> Iterator[BadRow]:
        """Chats of unknown roles or without content; they need no answer."""
        from datasets import DatasetDict

        if not {"prompt", "messages"} & {*rows.column_names}:
            fix = "Set dataset.columns.prompt or dataset.columns.messages."
            raise ConfigError(Mistake("dataset.columns", "prompt or messages", f"{rows.column_names}", fix))
        yield from super().bad_rows(DatasetDict(train=rows), None)
        for row, messages in enumerate(rows["messages"] if "messages" in rows.column_names else ()):
            if not _unanswered(messages or []):
                yield BadRow("train", row, "messages", "a turn to answer", shown(messages), "Correct or drop the row.")
            elif wrong := next(filter(None, map(_odd_message, messages)), None):
                yield BadRow("train", row, "messages", *wrong, "Correct or drop the row.")

    def prompts(self, batch: Batch, processor: Any) -> list[list[int]]:
        """Each chat up to where the template opens an answer; a last turn of the assistant is left out."""
        self._settle_template(processor)
        chats = batch.get("messages") or [[{"role": "user", "content": prompt}] for prompt in batch["prompt"]]
        asked = {"tokenize": False, "add_generation_prompt": True}
        texts = [_apply_template(processor, _unanswered(messages), **asked) for messages in chats]
        return processor(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def ends(self, processor: Any) -> list[int]:
        """The end token, and what the template ends an answer with."""
        self._settle_template(processor)
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
        last = [label for label in _encode_chat(processor, turns)["labels"] if label != IGNORED][-1]
        known = {*processor.added_tokens_decoder, *processor.all_special_ids}
        return sorted({*([last] if last in known else []), processor.eos_token_id} - {None})

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> Prepared:
        """Rows of `input_ids` and `labels`, which count in answers alone."""
        self._settle_template(processor)

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            chats = batch.get("messages") or [
                [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
                for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True)
            ]
            rows = [_encode_chat(processor, messages) for messages in chats]
            columns = {name: [row[name] for row in rows] for name in ("input_ids", "labels")}
            starts = [
                next((i for i, label in enumerate(row) if label != IGNORED), len(row)) for row in columns["labels"]
            ]
            return columns | {"length": [len(row) for row in columns["labels"]], "answer": starts}

        key = {"task": "supervised_fine_tuning/2", "template": processor.chat_template}
        encoded = encode_splits(splits, encode, processor, key)
        return self._shortened(encoded, max_length)

    def _settle_template(self, tokenizer: Any) -> None:
        """Sets the template, which is then saved with the tokenizer."""
        if self.chat_template is not None:
            tokenizer.chat_template = SIMPLE if self.chat_template == "simple" else self.chat_template
        if tokenizer.chat_template is None:
            fix = "Set task.chat_template=simple, or to a Jinja template."
            raise ConfigError(Mistake("task.chat_template", "a tokenizer with a chat template", "one without", fix))

    def _shortened(self, encoded: DatasetDict, max_length: int | None) -> Prepared:
        """Rows of at most `max_length` tokens with something to learn in each, and what became of the others."""
        splits, said = type(encoded)(), []
        for split, rows in encoded.items():
            long = sum(length > max_length for length in rows["length"]) if max_length else 0
            if long and self.on_long == "error":
                got = f"{long:,} of {len(rows):,} longer ones in {split}"
                fix = "Set task.on_long=drop or truncate."
                raise ConfigError(Mistake("task.on_long", f"examples of up to {max_length} tokens", got, fix))
            most = rows["answer"] if self.on_long == "truncate" else [length - 1 for length in rows["length"]]
            kept = rows.select([i for i, last in enumerate(most) if not max_length or last < max_length])
            if long and self.on_long == "truncate":
                kept = kept.map(_cut, fn_kwargs={"length": max_length}, desc=f"cutting {split}")
            if not len(kept):
                got = f"none of {len(rows):,} in {split}"
                fix = "Set task.on_long=truncate, or shorten them."
                raise ConfigError(Mistake("task.max_length", f"examples of up to {max_length} tokens", got, fix))
            if long:
                lost = len(rows) - len(kept)
                what = f"{lost:,} dropped" + (f", {long - lost:,} cut" if self.on_long == "truncate" else "")
                said.append(f"{long:,} of {len(rows):,} examples of {split} are over {max_length} tokens: {what}")
            splits[split] = kept.remove_columns(["length", "answer"])
        return Prepared(splits, {}, said)

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Pads a batch to its own longest row: `input_ids`, `attention_mask`, `labels` (batch, seq) int64."""
        from transformers import DataCollatorForSeq2Seq

        return DataCollatorForSeq2Seq(processor)

    def compute_metrics(self, prediction: EvalPrediction, evaluated: Evaluated) -> dict[str, float]:  # noqa: ARG002
        """The metrics that the config names, over the tokens of the answers."""
        return chosen(mean_scores(prediction.predictions), self.metrics)

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:
        """A prompt in the template, up to where the answer begins."""
        asked = [{"role": "user", "content": row["prompt"]}] if row.get("prompt") else row["messages"]
        before = list(takewhile(lambda message: message["role"] != "assistant", asked))
        return {"text": _apply_template(processor, before, tokenize=False, add_generation_prompt=True)}


def _cut(row: Mapping[str, Any], length: int) -> dict[str, Any]:
    return {name: row[name][:length] for name in ("input_ids", "labels")}


def _odd_chat(messages: list[Any]) -> tuple[str, str] | None:
    """What was expected of a chat and what it has instead; None where it is in order."""
    if wrong := next(filter(None, map(_odd_message, messages)), None):
        return wrong
    if not any(message["role"] == "assistant" for message in messages):
        return "a turn of the assistant", f"{len(messages)} messages without one"
    return None


def _odd_message(message: Any) -> tuple[str, str] | None:
    """What was expected of a message and what it has instead; None where it is in order."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return f"messages with a role among {list(ROLES)}", shown(message)
    content = message.get("content")
    needed = message["role"] in ("user", "assistant") and not message.get("tool_calls")
    if not isinstance(content, str) or (needed and not content.strip()):
        return "messages with content", shown(message)
    return None


def _unanswered(messages: list[Any]) -> list[Any]:
    """A chat without the answer that it ends with, where it ends with one."""
    last = messages[-1] if messages else None
    return messages[:-1] if isinstance(last, dict) and last.get("role") == "assistant" else messages


def _encode_chat(tokenizer: Any, messages: list[Any]) -> dict[str, list[int]]:
    """Token ids of a chat, and labels that are ignored outside the assistant's turns."""
    if MARKED.search(tokenizer.get_chat_template()):
        asked = {"return_dict": True, "return_assistant_tokens_mask": True, "tokenizer_kwargs": {"verbose": False}}
        encoded = _apply_template(tokenizer, messages, tokenize=True, **asked)
        inside = encoded["assistant_masks"]
    else:
        text, answers = _render(tokenizer, messages)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        inside = [_is_inside(at, stop, answers) for at, stop in encoded["offset_mapping"]]
    if not any(inside):
        got, fix = f"one without in {shown(messages)}", "Correct the template."
        raise ConfigError(Mistake("task.chat_template", "a template that writes an answer", got, fix))
    ids = encoded["input_ids"]
    return {"input_ids": ids, "labels": [i if answer else IGNORED for i, answer in zip(ids, inside, strict=True)]}


def _is_inside(at: int, stop: int, answers: list[tuple[int, int]]) -> bool:
    """Whether a token is of an answer; so is one that begins before it and has its first letters."""
    return any(at < end and (at >= start or stop > start) for start, end in answers)


def _render(tokenizer: Any, messages: list[Any]) -> tuple[str, list[tuple[int, int]]]:
    """The text of a chat, and from where to where the assistant speaks in it, with the end of its turn."""
    text = _apply_template(tokenizer, messages, tokenize=False)
    answers = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _apply_template(tokenizer, messages[:turn], tokenize=False, add_generation_prompt=True)
        after = _apply_template(tokenizer, messages[: turn + 1], tokenize=False)
        if not (text.startswith(after) and after.startswith(before)):
            got = "one that writes earlier turns in another way"
            fix = "Set task.chat_template=simple, or to a template of your own with {% generation %} around answers."
            raise ConfigError(Mistake("task.chat_template", "a template that only appends turns", got, fix))
        answers.append((len(before), len(after.rstrip())))
    return text, answers


def _apply_template(tokenizer: Any, turns: list[Any], **options: Any) -> Any:
    """What the tokenizer makes of some turns."""
    try:
        return tokenizer.apply_chat_template(turns, **options)
    except Exception as error:  # whatever a template raises
        got, fix = one_line(error), "Correct the template, or the order of the messages."
        raise ConfigError(Mistake("task.chat_template", "a template that takes these chats", got, fix)) from error
