"""The words of a context that answer a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.cache import arrow_column
from hydratune.data.columns import BadRow, Column, preview
from hydratune.tasks.base import EncodedData, EvalSplit, Task
from hydratune.tasks.metrics import squad
from hydratune.tasks.metrics.metric import Metric, percentage
from hydratune.tasks.tokenize import Batch, cut, encode_splits, say_truncated
from hydratune.utils.errors import ConfigError, Mistake

if TYPE_CHECKING:
    import torch
    from datasets import DatasetDict
    from transformers import EvalPrediction

_DEFAULT_LENGTH = 384  # tokens of a window, as in BERT's paper
_SHORTEST = 16  # so that a question and some context fit, and windows move on


@dataclass(kw_only=True)
class QuestionAnswering(Task):
    """Columns `question`, `context` and `answers`: SQuAD's {text: [...], answer_start: [...]}; optionally `id`.

    A long context is read in windows that overlap. Scores are SQuAD's, in percent.

    Args:
        doc_stride: Tokens that a window shares with the one before.
        max_answer_length: In tokens.
        n_best_size: How many starts and ends of each window are tried.
        version_2_with_negative: Some questions have no answer, as in SQuAD 2; how much doubt means "no answer" is
            tuned on validation.
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
    tuned: ClassVar[tuple[str, ...]] = ("null_threshold",)

    metrics: list[str] = field(default_factory=lambda: ["exact_match", "f1"])
    objective: str = "eval_f1"
    max_length: int | None = _DEFAULT_LENGTH
    doc_stride: int = 128
    max_answer_length: int = 30
    n_best_size: int = 20
    version_2_with_negative: bool = False

    def check(self) -> Iterator[Mistake]:
        """Adds: bounds of the numbers."""
        yield from super().check()
        if self.max_length is not None and 0 < self.max_length < _SHORTEST:
            yield Mistake("max_length", f"at least {_SHORTEST} tokens or null", repr(self.max_length), "Raise it.")
        for name in ("max_answer_length", "n_best_size"):
            if getattr(self, name) < 1:
                yield Mistake(name, "a number above 0", repr(getattr(self, name)), "Raise it.")
        if self.doc_stride < 0 or (self.max_length is not None and self.doc_stride >= self.max_length):
            expected = "tokens from 0 to fewer than task.max_length"
            fix = f"Set task.doc_stride={(self.max_length or _DEFAULT_LENGTH) // 3}."
            yield Mistake("doc_stride", expected, repr(self.doc_stride), fix)

    def arguments(self, objective: str) -> dict[str, Any]:
        """Adds: what the labels are called."""
        return super().arguments(objective) | {"label_names": ["start_positions", "end_positions"]}

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Adds: rows without an answer where each should have one, and answers that are not where they say."""
        asked = {split: rows for split, rows in splits.items() if "answers" in rows.column_names}
        if wrong := [m for split, rows in asked.items() if (m := _wrong_answers(split, rows.features["answers"]))]:
            raise ConfigError(*wrong)
        # Rows without an answer are judged here, and those without an id are as good as others.
        yield from (one for one in super().bad_rows(splits, label_names) if one.column not in ("answers", "id"))
        for split, rows in asked.items():
            pairs = zip(*(arrow_column(rows, name).to_pylist() for name in ("context", "answers")), strict=True)
            for row, (context, given) in enumerate(pairs):
                if _is_uneven(given):
                    expected = "a text and an answer_start for each answer"
                    yield BadRow(split, row, "answers", expected, preview(given), "Correct or drop the row.")
                    continue
                answers = _answers(given)
                if not answers and not self.version_2_with_negative:
                    fix = "Set task.version_2_with_negative=true if questions may have none."
                    yield BadRow(split, row, "answers", "an answer in every row", "none", fix)
                for text, start in answers:
                    there = (context or "")[start : start + len(text)] if start >= 0 else ""
                    if there != text or not text.strip():
                        expected = f"{preview(text)} at character {start} of the context"
                        fix = "answer_start counts characters from 0."
                        yield BadRow(split, row, "answers", expected, preview(there), fix)
                        break

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """Token ids of each window, and where the answer is, where one is known."""
        return _windows(processor, batch, *self._sizes(max_length))

    def _sizes(self, max_length: int | None) -> tuple[int, int]:
        """Tokens of a window, and those that it shares with the next."""
        length = max_length or _DEFAULT_LENGTH
        return length, min(self.doc_stride, length // 3)  # which leaves room for a question

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (answers have no names)
    ) -> EncodedData:
        """Rows of `input_ids` and `start_positions`, `end_positions`, a window each; 0 where the answer is not."""
        length, stride = self._sizes(max_length)

        def encode(batch: Batch) -> dict[str, Any]:
            return self.encode(batch, processor, max_length)

        key = {"task": "question_answering/3", "max_length": length, "stride": stride}
        encoded = encode_splits(splits, encode, processor, key)
        encoded, cut_said = say_truncated(encoded, _question_length(length, stride), "questions")
        said = [
            f"{len(splits[split]):,} questions of {split} became {len(rows):,} windows of up to {length} tokens"
            for split, rows in encoded.items()
            if len(rows) != len(splits[split])
        ]
        return EncodedData(encoded, {}, [*said, *cut_said, *_unaligned(encoded, length, stride)])

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Pads a batch to its own longest window: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        processor.padding_side = "right"  # positions count from the left
        return DataCollatorWithPadding(processor)

    def reduce_logits(self, logits: Any, labels: Any) -> tuple[torch.Tensor, ...]:  # noqa: ARG002 (Trainer's call)
        """Two of (batch, seq) -> the `n_best_size` best starts and ends with their scores, and that of no answer."""
        import torch

        starts, ends = (scores.float() for scores in logits[:2])
        found = []
        for scores in (starts, ends):
            best = scores.topk(min(self.n_best_size, scores.shape[1]), dim=1)
            room = self.n_best_size - best.indices.shape[1]  # so that all batches have one width
            found.append(torch.nn.functional.pad(best.indices, (0, room), value=-1))
            found.append(torch.nn.functional.pad(best.values, (0, room), value=float("-inf")))
        return (*found, starts[:, 0] + ends[:, 0])

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """SQuAD's scores; those of questions with and without answers where both occur; the tuned threshold."""
        found = self._candidates(prediction.predictions, evaluated)
        answers = [json.loads(known) for known in evaluated.rows["known"] if known is not None]
        tuned = {"null_threshold": self._threshold(found, answers, evaluated)} if self.version_2_with_negative else {}
        said = [self._said(one, tuned) for one in found]
        rows = [{"answers": known, "prediction": one} for known, one in zip(answers, said, strict=True)]
        return self.rescore(rows, ()) | tuned

    def say(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """The answer to each question, which is empty for no answer."""
        for found in self._candidates(predictions, evaluated):
            yield {"prediction": self._said(found, evaluated.tuned)}

    def decode(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Each question with its answers and the predicted one, which is empty for no answer."""
        rows = evaluated.rows.select_columns(["id", "question", "known"])
        firsts = [row for row in rows if row["known"] is not None]
        for row, said in zip(firsts, self.say(prediction.predictions, evaluated), strict=True):
            yield {"id": row["id"], "question": row["question"], "answers": json.loads(row["known"]), **said}

    def rescore(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """SQuAD's scores; those of questions with and without answers where both occur."""
        predictions, references = ([row[key] for row in rows] for key in ("prediction", "answers"))
        scores = squad.scores(predictions, references, self.version_2_with_negative)
        chosen = {name: value for name, value in scores.items() if name.startswith(tuple(self.metrics))}
        return chosen | self.extra_scores(predictions=predictions, references=references)

    def ratios(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Both scores of all questions."""
        scores = squad.scores([row["prediction"]], [row["answers"]], self.version_2_with_negative)
        return {name: (value, 1.0) for name, value in scores.items()}

    def _said(self, found: squad.SpanCandidates, tuned: Mapping[str, float]) -> str:
        return found.best.text if not tuned or found.doubt <= tuned["null_threshold"] else ""

    def _threshold(self, found: list[squad.SpanCandidates], answers: list[list[str]], evaluated: EvalSplit) -> float:
        """That of validation, or the best one here."""
        if evaluated.tuned:
            return evaluated.tuned["null_threshold"]
        pairs = zip(found, answers, strict=True)
        gains = (squad.f1(one.best.text, known, True) - squad.f1("", known, True) for one, known in pairs)
        return squad.best_threshold([one.doubt for one in found], gains)

    def _candidates(self, predictions: Any, evaluated: EvalSplit) -> list[squad.SpanCandidates]:
        """The best span of each question over its windows."""
        found: list[squad.SpanCandidates] = []
        context = ""
        for row, *window, null in zip(evaluated.rows, *predictions, strict=True):
            if row["context"] is not None:  # the first window of a question
                found.append(squad.SpanCandidates())
                context = row["context"]
            scored = dict(zip(("starts", "start_scores", "ends", "end_scores"), window, strict=True))
            found[-1].add({**scored, "offsets": row["offsets"]}, context, float(null), self.max_answer_length)
        return found


def _wrong_answers(split: str, feature: Any) -> Mistake | None:
    """A mistake where a column has none of SQuAD's two forms."""
    inside = getattr(feature, "feature", feature)  # of a list of answers
    is_list = inside is not feature
    parts = inside if isinstance(inside, dict) else {}
    leaves = [part if is_list else getattr(part, "feature", None) for part in map(parts.get, ("text", "answer_start"))]
    types = [getattr(leaf, "dtype", "none") for leaf in leaves]
    is_right = types[0] in ("string", "large_string", "null") and types[1].startswith(("int", "uint", "null"))
    if is_right or getattr(inside, "dtype", "") == "null":  # a split where no question has an answer
        return None
    expected = f"answers such as {{text: [word], answer_start: [0]}} in {split}"
    fix = "Name a column of answers in dataset.columns.answers."
    return Mistake("dataset.columns.answers", expected, f"values of type {feature}", fix)


def _is_uneven(given: Any) -> bool:
    """Whether an answer lacks its text or its start."""
    if isinstance(given, dict):
        texts, starts = given["text"] or [], given["answer_start"] or []
        return len(texts) != len(starts) or None in texts or None in starts
    return any(one is None or None in (one["text"], one["answer_start"]) for one in given or ())


def _answers(given: Any) -> list[tuple[str, int]]:
    """Text and start of each answer, from SQuAD's two forms."""
    if not given:
        return []
    if isinstance(given, dict):
        return list(zip(given["text"] or [], given["answer_start"] or [], strict=True))
    return [(answer["text"], answer["answer_start"]) for answer in given]


def _windows(tokenizer: Any, batch: Mapping[str, list[Any]], length: int, stride: int) -> dict[str, list[Any]]:
    """Token ids and positions of each window; the first one of a question also has what the question is."""
    whole = [question.strip() for question in batch["question"]]  # leading space would eat the window
    questions = _cut_questions(tokenizer, whole, _question_length(length, stride))
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
    last = None
    for window, sample in enumerate(samples):
        is_first, last = sample != last, sample
        sides = encoded.sequence_ids(window)
        offsets = [span if side == 1 else None for span, side in zip(all_offsets[window], sides, strict=True)]
        context_offsets.append(offsets)
        columns["offsets"].append([span or [] for span in offsets])
        columns["id"].append(None if ids[sample] is None or not is_first else str(ids[sample]))
        columns["question"].append(whole[sample] if is_first else None)
        columns["truncated"].append(is_first and questions[sample] != whole[sample])
        columns["context"].append(batch["context"][sample] if is_first else None)
    if "answers" in batch:
        columns |= _answer_columns(samples, context_offsets, [_answers(given) for given in batch["answers"]])
    return {**encoded, **columns}


_KEPT = ("offsets", "id", "question", "context", "truncated")


def _question_length(length: int, stride: int) -> int:
    """The most tokens of a question."""
    return length // 2 - stride // 2


def _cut_questions(tokenizer: Any, questions: list[str], most: int) -> list[str]:
    """The questions without what is over `most` tokens: a window must hold some of the context."""
    encoded = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True, **cut(most))
    ends = (offsets[-1][1] if offsets else 0 for offsets in encoded["offset_mapping"])
    long = (bool(one.overflowing) for one in encoded.encodings)
    return [text[:end] if over else text for text, end, over in zip(questions, ends, long, strict=True)]


def _unaligned(encoded: DatasetDict, length: int, stride: int) -> Iterator[str]:
    """A warning for each split with answers that no window has."""
    for split, rows in encoded.items():
        if count := sum(rows["unaligned"]):
            yield (
                f"{count:,} answers of {split} are longer than the overlap of {stride} tokens between windows of "
                f"{length}, or have no token: no window has them, so they are trained as unanswerable"
            )


def _answer_columns(
    samples: list[int], offsets: list[list[Any]], answers: list[list[tuple[str, int]]]
) -> dict[str, list[Any]]:
    """Where the first answer of each question is in each window, and what the answers are.

    `unaligned` marks the first window of a question with an answer that no window has as a whole.

    Args:
        samples: Number of the question of each window.
        offsets: Characters of each token of each window; None outside the context.
        answers: Text and start of each answer of each question.
    """
    names = ("start_positions", "end_positions", "known", "unaligned")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    windows: dict[int, list[list[Any]]] = {}
    for sample, window in zip(samples, offsets, strict=True):
        windows.setdefault(sample, []).append(window)
    for sample, of_question in windows.items():
        span = _covered(of_question, answers[sample])
        places = [_positions(window, span) for window in of_question]
        starts, ends = zip(*places, strict=True)
        columns["start_positions"] += starts
        columns["end_positions"] += ends
        rest = len(of_question) - 1
        # As one text, since Arrow cannot infer the type of an empty list, should a batch have no answers.
        columns["known"] += [json.dumps([text for text, _ in answers[sample]]), *[None] * rest]
        columns["unaligned"] += [bool(answers[sample]) and not any(map(any, places)), *[False] * rest]
    return columns


def _covered(windows: list[list[Any]], answers: list[tuple[str, int]]) -> tuple[int, int] | None:
    """The characters of the first answer that some token has; None if there are none.

    Tokenizers leave out spaces, and some of them zero-width characters and others.
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
    """First and last token of a span of characters; the first token of all if this window has not all of it."""
    if span is None:
        return 0, 0
    start, end = span
    inside = [i for i, one in enumerate(offsets) if one and one[0] < end and one[1] > start]
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < end:
        return 0, 0
    return inside[0], inside[-1]
