"""Hints for objectives that a run does not compute."""

import shlex

import pytest

from hydratune.config.objective_hints import suggest_objective
from hydratune.tasks import CausalLm, SequenceClassification


def hint(objective, **settings):
    """The hint of the task of one label per text."""
    task = SequenceClassification(**settings)
    return suggest_objective(objective, task.objectives(), task, ())


@pytest.mark.parametrize(
    ("objective", "meant"),
    [
        ("accuracy", "eval_accuracy"),
        ("eval/accuracy", "eval_accuracy"),
        ("validation_loss", "eval_loss"),
        ("eval_acc", "eval_accuracy"),
        ("mcc", "eval_matthews_correlation"),
        ("eval_macro_f2", "eval_macro_f1"),
    ],
)
def test_suggest_objective_names_a_computed_metric(objective, meant):
    """The name of Trainer is that with `eval_`; other tools have other names."""
    assert hint(objective).endswith(f" objective={meant}")


@pytest.mark.parametrize("objective", ["eval_roc_auc", "auroc", "eval_roc_auk"])
@pytest.mark.parametrize("metrics", [None, ["accuracy"]])
def test_suggest_objective_adds_a_metric_that_is_not_computed(objective, metrics):
    """The hint can be pasted: with its settings, the task has the objective."""
    overrides = dict(word.split("=") for word in shlex.split(hint(objective, metrics=metrics).partition(" set ")[2]))
    names = overrides["task.metrics"].strip("[]").split(",")
    task = SequenceClassification(metrics=names)
    assert not [*task.check()]
    assert overrides["objective"] == "eval_roc_auc" in task.objectives()
    assert "accuracy" in names


def test_suggest_objective_does_not_guess():
    """Accuracy is not a kind of ROC AUC of a task that has none, and nothing resembles nonsense."""
    task = CausalLm()
    assert suggest_objective("eval_auroc", task.objectives(), task, ()) == hint("eval_nonsense") == ""
