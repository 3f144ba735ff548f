"""Runs with several validation and test sets."""

import json
import statistics
from pathlib import Path

import pytest

from conftest import predictions, toy_rows, write_rows
from hydratune.evaluation.evaluate import evaluate
from hydratune.evaluation.load_run import open_run
from hydratune.evaluation.predict import PredictRequest, predict
from hydratune.tasks.metrics.over_sets import lookup, over_sets
from hydratune.tasks.sequence_classification import SequenceClassification

DEFINITIONS = SequenceClassification().definitions()


@pytest.fixture
def sets(toy, own_directory):
    """Overrides of a run on the toy rows with two validation sets and two test sets of different difficulty."""
    parts = toy_rows()
    negative = [row for row in parts["test"] if row["label"] == "neg"]
    write_rows(own_directory / "hard.jsonl", [*negative[:3], *parts["test"][:7]])
    both = "{easy: validation.jsonl, hard: hard.jsonl}"
    return [
        *toy,
        f"dataset.files.validation={both}",
        f"dataset.files.test={both}",
        "trainer.args.save_total_limit=null",
    ]


def logged(result):
    """The evaluations in the state of the last checkpoint."""
    paths = [*result.directory.glob("checkpoints/checkpoint-*/trainer_state.json")]
    path = max(paths, key=lambda path: int(path.parent.name.partition("-")[2]))
    return [entry for entry in json.loads(path.read_text())["log_history"] if "eval_runtime" in entry]


def test_run_evaluates_each_set_as_if_alone(train, sets):
    """The metrics of a set are those of an evaluation on its file, and the summaries are their mean and minimum."""
    result = train(*sets, "objective=eval_mean_accuracy", "trainer.args.num_train_epochs=4")
    metrics = result.metrics
    for name, file in (("easy", "validation.jsonl"), ("hard", "hard.jsonl")):
        alone = evaluate(open_run(str(result.directory), ""), ["dataset=local", f"dataset.files.test={file}"]).metrics
        for metric, value in alone.items():
            assert metrics[f"eval_{name}_{metric}"] == pytest.approx(value, abs=1e-6)
            assert metrics[f"test_{name}_{metric}"] == pytest.approx(value, abs=1e-6)
    scores = [metrics["eval_easy_accuracy"], metrics["eval_hard_accuracy"]]
    assert scores[0] != scores[1]
    assert result.objective == metrics["eval_mean_accuracy"] == pytest.approx(statistics.fmean(scores))
    assert metrics["eval_min_accuracy"] == min(scores)
    assert metrics["eval_max_loss"] == max(metrics["eval_easy_loss"], metrics["eval_hard_loss"])
    again = evaluate(open_run(str(result.directory), ""))
    assert again.metrics["mean_accuracy"] == pytest.approx(metrics["test_mean_accuracy"])


def test_run_logs_all_sets_of_an_evaluation_together(train, sets):
    """Callbacks such as early stopping see the summary over sets, once per evaluation."""
    callbacks = ["trainer/callbacks=[early_stopping]", "trainer.args.num_train_epochs=2"]
    result = train(*sets, "objective=eval_min_accuracy", *callbacks)
    evaluations = logged(result)
    assert [entry["epoch"] for entry in evaluations] == [1, 2]
    assert all("eval_min_accuracy" in entry and "eval_hard_loss" in entry for entry in evaluations)


def test_run_keeps_the_best_checkpoint_by_the_summary(train, sets):
    """The objective is the best value of the summary over all evaluations."""
    result = train(*sets, "objective=eval_max_loss", "trainer.args.num_train_epochs=4")
    assert result.metrics["eval_max_loss"] == min(entry["eval_max_loss"] for entry in logged(result))


def test_predictions_name_their_set(train, sets):
    """The rows of all test sets are in one file, with set and position."""
    result = train(*sets, "objective=eval_mean_accuracy", "trainer.args.max_steps=1")
    found = [(row["set"], row["row"]) for row in predictions(result)]
    easy = len(toy_rows()["validation"])
    assert found == [*(("easy", i) for i in range(easy)), *(("hard", i) for i in range(10))]
    predict(PredictRequest(str(result.directory), Path("hard.jsonl"), (), out=Path("out.jsonl")))
    again = [json.loads(line)["prediction"] for line in Path("out.jsonl").read_text().splitlines()]
    assert again == [row["prediction"] for row in predictions(result) if row["set"] == "hard"]


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("f1", "f1"),
        ("f1_person", "f1"),
        ("news_loss", "loss"),
        ("mean_macro_f1", "macro_f1"),
        ("max_loss", "loss"),
        ("runtime", None),
    ],
)
def test_lookup(name, definition):
    """Parts, sets, and summaries have the definition of their metric; other numbers have none."""
    assert lookup(name, DEFINITIONS) == (definition and DEFINITIONS[definition])


def test_over_sets_takes_the_worst_set_by_direction():
    """The worst set has the minimum of a score, and the maximum of a loss."""
    by_set = {"a": {"accuracy": 0.5, "loss": 1.0, "other": 3}, "b": {"accuracy": 1.0, "loss": 3.0}}
    values = dict(over_sets(by_set, lambda name: lookup(name, DEFINITIONS)))
    assert values == {"mean_accuracy": 0.75, "min_accuracy": 0.5, "mean_loss": 2.0, "max_loss": 3.0}
