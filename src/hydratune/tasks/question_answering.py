"""Extractive question answering: find the words of a context that answer a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, BadRow, Column, preview
from hydratune.tasks.base import EncodedData, EvalSplit, Task
from hydratune.tasks.metrics import squad
from hydratune.tasks.metrics.metric import Metric, percentage
from hydratune.tasks.tokenize import Batch, cut, encode_splits, say_truncated
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value, one_line

if TYPE_CHECKING:
    import torch
    from datasets import DatasetDict
    from transformers import EvalPrediction

_DEFAULT_LENGTH = 384  # tokens of a window, as in BERT's paper
_SHORTEST = 16  # tokens of a window, so that a question and some context fit, and windows advance


@dataclass(kw_only=True)
class QuestionAnswering(Task):
    """Extractive question answering on columns `question`, `context`, `answers`, and optionally `id`.

    Answers have the form of SQuAD: {text: [...], answer_start: [...]}. A long context is split into overlapping
    windows. Scores are those of SQuAD, in percent.

    Args:
        doc_stride: Tokens that a window shares with the previous one.
        max_answer_length: Maximum tokens of an answer.
        n_best_size: Number of starts and ends of each window to try.
        version_2_with_negative: Whether some questions have no answer, as in SQuAD 2. The threshold for "no answer"
            is tuned on validation.

    Example:
        >>> QuestionAnswering(metrics=["exact_match"], max_length=384).objectives()
        ['eval_loss', 'eval_exact_match']
    """

    auto_model: ClassVar[str] = "AutoModelForQuestionAnswering"
    columns: ClassVar[Mapping[str, Column]] = {
        "id": Column("any", required=False),
        "question": Column("text"),
        "context": Column("text"),
        "answers": Column("any", target=True),
    }
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    shared_input: ClassVar[str] = "context"
    needs_fast: ClassVar[bool] = True
    known_metrics: ClassVar[tuple[Metric, ...]] = (percentage("exact_match"), percentage("f1"))
    tuned_metrics: ClassVar[tuple[str, ...]] = ("null_threshold",)

    metrics: list[str] = field(default_factory=lambda: ["exact_match", "f1"])
    objective: str = "eval_f1"
    max_length: int | None = _DEFAULT_LENGTH
    doc_stride: int = 128
    max_answer_length: int = 30
    n_best_size: int = 20
    version_2_with_negative: bool = False

    def tunes(self) -> bool:
        """Return whether the threshold for no answer is tuned."""
        return self.version_2_with_negative

    def check(self) -> Iterator[Problem]:
        """Also yield errors of numbers that are out of range."""
        yield from super().check()
        if self.max_length is not None and 0 < self.max_length < _SHORTEST:
            yield invalid_value("max_length", f"null or an integer of at least {_SHORTEST}", self.max_length)
        for name in ("max_answer_length", "n_best_size"):
            if getattr(self, name) < 1:
                yield invalid_value(name, "an integer of at least 1", getattr(self, name))
        if self.doc_stride < 0 or (self.max_length is not None and self.doc_stride >= self.max_length):
            requirement = "an integer of at least 0"
            requirement += f" and below {NODE}max_length ({self.max_length})" if self.max_length is not None else ""
            hint = f"set {KEY}={(self.max_length or _DEFAULT_LENGTH) // 3}"
            yield invalid_value("doc_stride", requirement, self.doc_stride, hint)

    def arguments(self, objective: str) -> dict[str, Any]:
        """Also set the names of the labels."""
        return super().arguments(objective) | {"label_names": ["start_positions", "end_positions"]}

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield rows without a required answer, and answers that are not at their `answer_start`."""
        labeled = {split: rows for split, rows in splits.items() if "answers" in rows.column_names}
        if errors := [m for split, rows in labeled.items() if (m := _wrong_answers(split, rows.features["answers"]))]:
            raise ConfigError(*errors)
        # Rows without an answer are checked here, and rows without an ID are valid.
        yield from (
            bad_row for bad_row in super().bad_rows(splits, label_names) if bad_row.column not in ("answers", "id")
        )
        for split, rows in labeled.items():
            pairs = zip(*(arrow_column(rows, name).to_pylist() for name in ("context", "answers")), strict=True)
            for row, (context, value) in enumerate(pairs):
                if _is_uneven(value):
                    text = f"an answer of {COLUMN} lacks its text or its answer_start: {preview(value)}"
                    yield BadRow(split, row, "answers", text, value=preview(value))
                    continue
                answers = _answers(value)
                if not answers and not self.version_2_with_negative:
                    hint = "for unanswerable questions, set task.version_2_with_negative=true"
                    yield BadRow(split, row, "answers", f"empty {COLUMN}", hint, preview(value))
                for text, start in answers:
                    actual_text = (context or "")[start : start + len(text)] if start >= 0 else ""
                    if actual_text != text or not text.strip():
                        actual = preview(actual_text)
                        reason = f"the context has {actual} at character {start}, not the answer {preview(text)}"
                        yield BadRow(split, row, "answers", reason, "answer_start counts characters from 0", actual)
                        break

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """Return the token IDs of each window, and the position of the answer if it is known."""
        return _windows(processor, batch, *self._sizes(max_length))

    def _sizes(self, max_length: int | None) -> tuple[int, int]:
        """Return the tokens of a window, and those that it shares with the next one."""
        length = max_length or _DEFAULT_LENGTH
        return length, min(self.doc_stride, length // 3)  # which leaves room for a question

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (answers have no names)
    ) -> EncodedData:
        """Return rows of `input_ids`, `start_positions`, `end_positions`, one per window; 0 if it lacks the answer."""
        length, stride = self._sizes(max_length)

        def encode(batch: Batch) -> dict[str, Any]:
            return self.encode(batch, processor, max_length)

        key = {"task": "question_answering/3", "max_length": length, "stride": stride}
        encoded = encode_splits(splits, encode, processor, key)
        encoded, cut_messages = say_truncated(encoded, _question_length(length, stride), "questions")
        messages = [
            f"{len(splits[split]):,} questions of {split} became {len(rows):,} windows of up to {length} tokens"
            for split, rows in encoded.items()
            if len(rows) != len(splits[split])
        ]
        return EncodedData(encoded, {}, [*messages, *cut_messages, *_unaligned(encoded, length, stride)])

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest window: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        processor.padding_side = "right"  # positions count from the left
        return DataCollatorWithPadding(processor)

    def reduce_logits(self, logits: Any, labels: Any) -> tuple[torch.Tensor, ...]:  # noqa: ARG002 (Trainer's call)
        """Reduce two (batch, seq) to the `n_best_size` best starts and ends with scores, and the score of no answer."""
        import torch

        starts, ends = (scores.float() for scores in logits[:2])
        outputs = []
        for scores in (starts, ends):
            best = scores.topk(min(self.n_best_size, scores.shape[1]), dim=1)
            padding = self.n_best_size - best.indices.shape[1]  # so that all batches have one width
            outputs.append(torch.nn.functional.pad(best.indices, (0, padding), value=-1))
            outputs.append(torch.nn.functional.pad(best.values, (0, padding), value=float("-inf")))
        return (*outputs, starts[:, 0] + ends[:, 0])

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics of `metrics_from_predictions`, and the threshold if it is tuned."""
        all_candidates = self._candidates(prediction.predictions, evaluated)
        answers = [json.loads(gold) for gold in evaluated.rows["known"] if gold is not None]
        tuned = (
            {"null_threshold": self._threshold(all_candidates, answers, evaluated)}
            if self.version_2_with_negative
            else {}
        )
        texts = [self._answer(candidates, tuned) for candidates in all_candidates]
        rows = [{"answers": gold, "prediction": text} for gold, text in zip(answers, texts, strict=True)]
        return self.metrics_from_predictions(rows, ()) | tuned

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the answer to each question, which is empty for no answer."""
        for candidates in self._candidates(predictions, evaluated):
            yield {"prediction": self._answer(candidates, evaluated.tuned)}

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield each question with its answers and the predicted one, which is empty for no answer."""
        rows = evaluated.rows.select_columns(["id", "question", "known"])
        first_windows = [row for row in rows if row["known"] is not None]
        for row, predicted in zip(
            first_windows, self.format_predictions(prediction.predictions, evaluated), strict=True
        ):
            yield {"id": row["id"], "question": row["question"], "answers": json.loads(row["known"]), **predicted}

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return SQuAD's scores; if some questions have no answer, also those of questions with and without answers."""
        predictions, references = ([row[key] for row in rows] for key in ("prediction", "answers"))
        scores = squad.scores(predictions, references, self.version_2_with_negative)
        selected = {name: value for name, value in scores.items() if name.startswith(tuple(self.metrics))}
        return selected | self.extra_scores(predictions=predictions, references=references)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Return the sums of a row for both scores of all questions."""
        scores = squad.scores([row["prediction"]], [row["answers"]], self.version_2_with_negative)
        return {name: (value, 1.0) for name, value in scores.items()}

    def _answer(self, candidates: squad.SpanCandidates, tuned: Mapping[str, float]) -> str:
        return candidates.best.text if not tuned or candidates.doubt <= tuned["null_threshold"] else ""

    def _threshold(
        self, all_candidates: list[squad.SpanCandidates], answers: list[list[str]], evaluated: EvalSplit
    ) -> float:
        """Return the threshold of validation, or the best one for these questions."""
        if evaluated.tuned:
            return evaluated.tuned["null_threshold"]
        pairs = zip(all_candidates, answers, strict=True)
        gains = (squad.f1(candidates.best.text, gold, True) - squad.f1("", gold, True) for candidates, gold in pairs)
        return squad.best_threshold([candidates.doubt for candidates in all_candidates], gains)

    def _candidates(self, predictions: Any, evaluated: EvalSplit) -> list[squad.SpanCandidates]:
        """Return the best span of each question over its windows."""
        all_candidates: list[squad.SpanCandidates] = []
        context = ""
        for row, *window, null in zip(evaluated.rows, *predictions, strict=True):
            if row["context"] is not None:  # the first window of a question
                all_candidates.append(squad.SpanCandidates())
                context = row["context"]
            window_scores = dict(zip(("starts", "start_scores", "ends", "end_scores"), window, strict=True))
            all_candidates[-1].add(
                {**window_scores, "offsets": row["offsets"]}, context, float(null), self.max_answer_length
            )
        return all_candidates


def _wrong_answers(split: str, feature: Any) -> Problem | None:
    """Return an error if a column has neither of SQuAD's two forms."""
    answer_feature = getattr(feature, "feature", feature)  # of a list of answers
    is_list = answer_feature is not feature
    fields = answer_feature if isinstance(answer_feature, dict) else {}
    leaves = [
        subfeature if is_list else getattr(subfeature, "feature", None)
        for subfeature in map(fields.get, ("text", "answer_start"))
    ]
    dtypes = [getattr(leaf, "dtype", "none") for leaf in leaves]
    is_valid = dtypes[0] in ("string", "large_string", "null") and dtypes[1].startswith(("int", "uint", "null"))
    if is_valid or getattr(answer_feature, "dtype", "") == "null":  # a split where no question has an answer
        return None
    example = "{text: [word], answer_start: [0]}"
    kind = one_line(getattr(feature, "dtype", feature), 100)
    text = f"{KEY} must name a column of answers such as {example}; in {split}, its type is {kind}"
    return Problem("dataset.columns.answers", text)


def _is_uneven(value: Any) -> bool:
    """Return whether an answer lacks its text or its start."""
    if isinstance(value, dict):
        texts, starts = value["text"] or [], value["answer_start"] or []
        return len(texts) != len(starts) or None in texts or None in starts
    return any(answer is None or None in (answer["text"], answer["answer_start"]) for answer in value or ())


def _answers(value: Any) -> list[tuple[str, int]]:
    """Return the text and start of each answer, from either of SQuAD's forms."""
    if not value:
        return []
    if isinstance(value, dict):
        return list(zip(value["text"] or [], value["answer_start"] or [], strict=True))
    return [(answer["text"], answer["answer_start"]) for answer in value]


def _windows(tokenizer: Any, batch: Mapping[str, list[Any]], length: int, stride: int) -> dict[str, list[Any]]:
    """Return the token IDs and positions of each window; the first one of a question also has the question's data."""
    full_questions = [question.strip() for question in batch["question"]]  # leading whitespace would fill the window
    questions = _cut_questions(tokenizer, full_questions, _question_length(length, stride))
    encoded = tokenizer(
        questions,
        batch["context"],
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        **cut(length) | {"truncation": "only_second"},
    )
    samples = encoded.pop("overflow_to_sample_mapping")
    all_offsets = encoded.pop("offset_mapping")
    ids = batch.get("id") or [None] * len(questions)
    columns: dict[str, list[Any]] = {name: [] for name in _KEPT}
    context_offsets = []
    last_sample = None
    for window, sample in enumerate(samples):
        is_first, last_sample = sample != last_sample, sample
        sequence_ids = encoded.sequence_ids(window)
        offsets = [
            span if sequence_id == 1 else None
            for span, sequence_id in zip(all_offsets[window], sequence_ids, strict=True)
        ]
        context_offsets.append(offsets)
        columns["offsets"].append([span or [] for span in offsets])
        columns["id"].append(None if ids[sample] is None or not is_first else str(ids[sample]))
        columns["question"].append(full_questions[sample] if is_first else None)
        columns["truncated"].append(is_first and questions[sample] != full_questions[sample])
        columns["context"].append(batch["context"][sample] if is_first else None)
    if "answers" in batch:
        columns |= _answer_columns(samples, context_offsets, [_answers(value) for value in batch["answers"]])
    return {**encoded, **columns}


_KEPT = ("offsets", "id", "question", "context", "truncated")


def _question_length(length: int, stride: int) -> int:
    """Return the maximum tokens of a question."""
    return length // 2 - stride // 2


def _cut_questions(tokenizer: Any, questions: list[str], max_length: int) -> list[str]:
    """Truncate questions to `max_length` tokens, since a window must contain some of the context."""
    encoded = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True, **cut(max_length))
    ends = (offsets[-1][1] if offsets else 0 for offsets in encoded["offset_mapping"])
    is_long = (bool(encoding.overflowing) for encoding in encoded.encodings)
    return [text[:end] if is_cut else text for text, end, is_cut in zip(questions, ends, is_long, strict=True)]


def _unaligned(encoded: DatasetDict, length: int, stride: int) -> Iterator[str]:
    """Yield a warning for each split with answers that no window contains."""
    for split, rows in encoded.items():
        if count := sum(rows["unaligned"]):
            yield (
                f"{count:,} answers of {split} are longer than the overlap of {stride} tokens between windows of "
                f"{length}, or have no token: no window has them, so they are trained as unanswerable"
            )


def _answer_columns(
    samples: list[int], offsets: list[list[Any]], answers: list[list[tuple[str, int]]]
) -> dict[str, list[Any]]:
    """Return the positions of each question's first answer in each window, and all its answers.

    `unaligned` marks the first window of a question with an answer that no window contains completely.

    Args:
        samples: Number of the question of each window.
        offsets: Character span of each token of each window; None outside the context.
        answers: Text and start of each answer of each question.
    """
    names = ("start_positions", "end_positions", "known", "unaligned")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    windows: dict[int, list[list[Any]]] = {}
    for sample, window in zip(samples, offsets, strict=True):
        windows.setdefault(sample, []).append(window)
    for sample, question_windows in windows.items():
        span = _covered(question_windows, answers[sample])
        positions = [_positions(window, span) for window in question_windows]
        starts, ends = zip(*positions, strict=True)
        columns["start_positions"] += starts
        columns["end_positions"] += ends
        other_count = len(question_windows) - 1
        # One JSON text, since Arrow cannot infer the type of empty lists if a batch has no answers.
        columns["known"] += [json.dumps([text for text, _ in answers[sample]]), *[None] * other_count]
        columns["unaligned"] += [bool(answers[sample]) and not any(map(any, positions)), *[False] * other_count]
    return columns


def _covered(windows: list[list[Any]], answers: list[tuple[str, int]]) -> tuple[int, int] | None:
    """Return the character span of the first answer that tokens cover; None without an answer or such tokens.

    Tokenizers omit spaces, and some of them also zero-width and other characters.
    """
    if not answers:
        return None
    text, start = answers[0]
    end = start + len(text)
    spans = [span for window in windows for span in window if span and span[0] < min(end, span[1]) and span[1] > start]
    if not spans:
        return None
    return max(start, min(first for first, _ in spans)), min(end, max(last for _, last in spans))


def _positions(offsets: list[Any], span: tuple[int, int] | None) -> tuple[int, int]:
    """Return the first and last token of a character span; (0, 0) if the window does not contain the whole span."""
    if span is None:
        return 0, 0
    start, end = span
    covered = [
        i for i, token_span in enumerate(offsets) if token_span and token_span[0] < end and token_span[1] > start
    ]
    if not covered or offsets[covered[0]][0] > start or offsets[covered[-1]][1] < end:
        return 0, 0
    return covered[0], covered[-1]
