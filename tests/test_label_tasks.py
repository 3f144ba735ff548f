"""Multi-label classification, regression and multiple choice: rows, metrics, predictions."""

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy import stats
from scipy.sparse import csr_matrix
from sklearn import metrics as sklearn_metrics
from transformers import AutoTokenizer

from conftest import predictions, write_rows
from hydratune.errors import ConfigError
from hydratune.tasks.label_metrics import MULTI_LABEL, REGRESSION, best_threshold
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.multiple_choice import MultipleChoice
from hydratune.tasks.regression import Regression


def files(folder, rows, **named):
    """Overrides that name three small files."""
    for split in ("train", "validation", "test"):
        write_rows(folder / f"{split}.jsonl", named.get(split, rows))
    return ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))]


def bad(task, names=None, **columns):
    """The bad rows of a training split."""
    return [
        (one.row, one.column, one.got) for one in task.bad_rows(DatasetDict(train=Dataset.from_dict(columns)), names)
    ]


# --- multi-label -----------------------------------------------------------------------------------------

MULTI = [
    {"text": f"{one} {other}", "labels": [name for name in (one, other) if name in ("good", "great", "bad")]}
    for one in ("good", "great", "bad", "film")
    for other in ("good", "book", "was", "bad")
]


@pytest.mark.parametrize("tune", [False, True])
def test_multi_label_learns(train, tiny, own_directory, tune):
    """The tiny network learns which words are there; a tuned threshold is that of validation on test."""
    learn = [
        "trainer.args.max_steps=300",
        "trainer.args.learning_rate=0.02",
        f"task.tune_threshold={str(tune).lower()}",
    ]
    result = train(*files(own_directory, MULTI), "task=multi_label_classification", *tiny, *learn)
    assert result.metrics["test_micro_f1"] > 0.9
    assert ("test_threshold" in result.metrics) == tune
    assert result.metrics.get("test_threshold") == result.metrics.get("eval_threshold")
    rows = predictions(result)
    exact = sum(row["labels"] == row["predictions"] for row in rows) / len(rows)
    assert exact > 0.8
    assert rows[-1]["labels"] == ["bad"]


def test_indicators(train, tiny, own_directory):
    """Columns of 0 and 1 are labels of the names that the dataset gives them."""
    rows = [{"text": row["text"], **{name: int(name in row["labels"]) for name in ("good", "bad")}} for row in MULTI]
    named = ["dataset.columns.labels=[good,bad]", "dataset.labels=[is_good,is_bad]", "task.encoding=indicators"]
    result = train(*files(own_directory, rows), "task=multi_label_classification", *tiny, *named)
    expected = [[f"is_{name}" for name in ("good", "bad") if row[name]] for row in rows]
    assert [row["labels"] for row in predictions(result)] == expected


def test_bad_rows_of_multi_label():
    """Unknown names, and indicators that are not one for each label, are bad; no labels at all is a row like any other."""
    columns = {"text": ["a", "b", "c"], "labels": [["x"], [], ["x", "z"]]}
    assert bad(MultiLabelClassification(), ["x", "y"], **columns) == [(2, "labels", "'z'")]
    columns = {"text": ["a", "b", "c"], "labels": [[0, 1], [1], [0, 2]]}
    task = MultiLabelClassification(encoding="indicators")
    assert bad(task, ["x", "y"], **columns) == [(1, "labels", "[1]"), (2, "labels", "[0, 2]")]
    with pytest.raises(ConfigError, match=r"^dataset\.labels: expected names for the indicators"):
        bad(task, None, **columns)


INDICATORS = {
    "usual": ([[1, 0], [0, 1], [1, 1]], [[1, 0], [1, 0], [1, 1]]),
    "nothing predicted": ([[1, 0], [0, 1]], [[0, 0], [0, 0]]),
    "nothing at all": ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
    "a label missing": ([[1, 0, 0], [1, 0, 1]], [[1, 0, 0], [0, 0, 1]]),
}


@pytest.mark.parametrize("case", INDICATORS)
def test_multi_label_metrics_are_those_of_scikit_learn(case):
    """Sparse matrices and awkward cases give what scikit-learn gives for dense ones."""
    true, said = map(np.array, INDICATORS[case])
    reference = {
        "micro_f1": sklearn_metrics.f1_score(true, said, average="micro", zero_division=0),
        "macro_f1": sklearn_metrics.f1_score(true, said, average="macro", zero_division=0),
        "subset_accuracy": (true == said).all(axis=1).mean(),
    }
    for name, metric in MULTI_LABEL.items():
        assert metric(csr_matrix(true), csr_matrix(said)) == pytest.approx(reference[name], abs=1e-6), name


def test_the_best_threshold_is_the_best():
    """No other threshold has a higher micro F1, also where scores tie."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 2, (50, 3))
    scores = np.round(np.clip(true * 0.3 + generator.random((50, 3)), 0, 1), 1)

    def score(threshold):
        return sklearn_metrics.f1_score(true, scores >= threshold, average="micro")

    assert score(best_threshold(true, scores)) == max(score(threshold) for threshold in np.unique(scores))


def test_the_least_of_the_logits_is_kept():
    """With a fixed threshold a decision takes a byte."""
    import torch

    logits = torch.tensor([[2.0, -1.0]])
    assert MultiLabelClassification().reduce_logits(logits, None).dtype == torch.uint8
    assert MultiLabelClassification(threshold=0.2).reduce_logits(logits, None).tolist() == [[1, 1]]


# --- regression ------------------------------------------------------------------------------------------


def test_regression_learns(train, tiny, own_directory):
    """The tiny network learns to count a word."""
    rows = [
        {"text": " ".join(["good"] * n + ["film"] * (6 - n)), "label": float(n)} for n in range(7) for _ in range(3)
    ]
    learn = ["trainer.args.max_steps=200", "trainer.args.learning_rate=0.02"]
    result = train(*files(own_directory, rows), "task=regression", *tiny, *learn)
    assert result.metrics["test_pearson"] > 0.9
    assert predictions(result)[-1]["label"] == 6.0


NUMBERS = {
    "usual": ([1.0, 2.0, 3.0], [1.5, 1.0, 3.0]),
    "ties": ([1.0, 1.0, 2.0, 2.0], [0.0, 1.0, 1.0, 3.0]),
    "opposite": ([1.0, 2.0], [2.0, 1.0]),
    "constant prediction": ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5]),
    "one row": ([1.0], [2.0]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_regression_metrics_are_those_of_the_libraries(case):
    """SciPy's and scikit-learn's values; 0 where a correlation is not defined."""
    true, said = NUMBERS[case]
    defined = case not in ("constant prediction", "one row")
    reference = {
        "pearson": stats.pearsonr(true, said).statistic if defined else 0.0,
        "spearman": stats.spearmanr(true, said).statistic if defined else 0.0,
        "mse": sklearn_metrics.mean_squared_error(true, said),
        "mae": sklearn_metrics.mean_absolute_error(true, said),
    }
    for name, metric in REGRESSION.items():
        value = metric().compute(references=true, predictions=said)[name]
        assert value == pytest.approx(reference[name], abs=1e-6), name


def test_numbers_that_are_none():
    """Nulls and NaN are bad rows; a column of texts is one mistake."""
    assert bad(Regression(), text=["a", "b", "c"], label=[1.0, None, float("nan")]) == [
        (1, "label", "no value"),
        (2, "label", "nan"),
    ]
    with pytest.raises(
        ConfigError, match=r"^dataset\.columns\.label: expected numbers in train, got values of type string"
    ):
        bad(Regression(), text=["a"], label=["1"])


def test_less_is_better(train, tiny, own_directory):
    """A run whose objective is an error keeps the checkpoint with the lowest."""
    rows = [{"text": "good", "label": 1.0}, {"text": "bad", "label": 0.0}] * 4
    ruin = ["trainer.args.learning_rate=0.3", "trainer.args.warmup_steps=0", "trainer.args.lr_scheduler_type=constant"]
    more = [*ruin, "objective=eval_mse", "trainer.args.max_steps=-1", "trainer.args.num_train_epochs=6"]
    result = train(*files(own_directory, rows), "task=regression", *tiny, *more, "trainer.args.save_total_limit=2")
    states = [json.loads(path.read_text()) for path in result.directory.glob("checkpoints/*/trainer_state.json")]
    longest = max(states, key=lambda state: state["global_step"])
    history = [entry["eval_mse"] for entry in longest["log_history"] if "eval_mse" in entry]
    assert len(history) > 2
    assert result.objective == min(history)


# --- multiple choice -------------------------------------------------------------------------------------


def choices(count):
    """Rows whose right choice repeats the text."""
    words = ["good", "bad", "film", "book", "great", "awful"]
    return [
        {
            "text": words[i % 6],
            "choices": [words[(i + k) % 6] for k in (5, 3, 0)[i % 3 :] + (5, 3, 0)[: i % 3]],
            "label": 2 - i % 3,
        }
        for i in range(count)
    ]


def test_multiple_choice_learns(train, tiny, own_directory):
    """The tiny network learns to choose the text itself; chance is a third."""
    rows = choices(18)
    assert all(row["choices"][row["label"]] == row["text"] for row in rows)
    learn = ["trainer.args.max_steps=200", "trainer.args.learning_rate=0.02"]
    result = train(*files(own_directory, rows), "task=multiple_choice", *tiny, *learn)
    assert result.metrics["test_accuracy"] > 0.9
    assert [row["label"] for row in predictions(result)] == [row["text"] for row in rows]


def test_choices_of_several_columns(train, tiny, own_directory):
    """Columns of endings, as SWAG has them, are choices; a second context opens each of them."""
    rows = [{"sent1": "the film", "sent2": "was", "a": "good", "b": "bad", "label": i % 2} for i in range(4)]
    named = ["dataset.columns.text=sent1", "dataset.columns.start=sent2", "dataset.columns.choices=[a,b]"]
    result = train(*files(own_directory, rows), "task=multiple_choice", *tiny, *named)
    assert [row["label"] for row in predictions(result)] == ["good", "bad", "good", "bad"]


def test_labels_of_choices():
    """A label is the number of a choice, or its text; others are bad, and so are rows of another number of choices."""
    columns = {"text": ["t"] * 4, "choices": [["x", "y"], ["x", "y"], ["x", "y"], ["x"]], "label": ["1", "y", "2", "0"]}
    assert bad(MultipleChoice(), **columns) == [(2, "label", "'2'"), (3, "choices", "1")]


def test_long_choices_are_cut(tiny_model):
    """Text and choice together fit the network, and what was cut is said."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = {"text": ["good " * 40], "choices": [["bad " * 50, "film"]], "label": [1]}
    data = MultipleChoice().prepare(DatasetDict(train=Dataset.from_dict(rows)), tokenizer, 16, None)
    assert max(map(len, data.splits["train"][0]["input_ids"])) == 16
    assert data.said == ["1 texts were cut to 16 tokens: 1 of train"]
