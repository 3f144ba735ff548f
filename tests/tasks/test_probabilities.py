"""Probabilities of labels, and their metrics, which are those of scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error
from transformers import BertConfig, BertForSequenceClassification, EvalPrediction, Seq2SeqTrainingArguments

from hydratune.config.composition import Request
from hydratune.sweep.plan import make_plan
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.labels import TRUE_NAMES
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.multiple_choice import MultipleChoice
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.tasks.token_classification import TokenClassification
from hydratune.training.trainer.trainer import Trainer
from hydratune.utils.errors import ConfigError
from two_ranks import measured_by_two_ranks

NAMES = [chr(ord("a") + i) for i in range(26)]
METRICS = ["log_loss", "brier", "ece", "roc_auc", "average_precision"]
LABEL_METRICS = ["balanced_accuracy", "cohen_kappa", "quadratic_kappa", "macro_precision", "macro_recall"]
RANDOM = np.random.default_rng(0)


def head(count):
    """Number and names of the labels."""
    return {"num_labels": count, "id2label": dict(enumerate(NAMES[:count]))}


def evaluate(task, logits, labels, count, rows=None):
    """Reduce logits in two batches, as Trainer does; return the metrics and the decoded rows."""
    half = len(logits) // 2
    batches = [task.reduce_logits(logits[s], labels[s]) for s in (slice(half), slice(half, None))]
    outputs = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}
    prediction, evaluated = EvalPrediction(outputs, labels.numpy()), EvalSplit(rows, head(count))
    return task.compute_metrics(prediction, evaluated), list(task.predictions_with_labels(prediction, evaluated))


def logits_of(count, rows=60, step=0.0):
    """Random logits; with a step, many of them are equal."""
    values = RANDOM.normal(size=(rows, count)) * 3
    return torch.tensor(np.round(values / step) * step if step else values, dtype=torch.float32)


# Logits, true labels, number of labels.
CASES = {
    "two labels": (logits_of(2), RANDOM.integers(0, 2, 60), 2),
    "five labels": (logits_of(5), RANDOM.integers(0, 5, 60), 5),
    "ties": (logits_of(3, step=3), RANDOM.integers(0, 3, 60), 3),
    "equal probabilities": (torch.zeros(60, 3), RANDOM.integers(0, 3, 60), 3),
    "certain and wrong": (torch.tensor([[200.0, -200.0]] * 60), RANDOM.integers(0, 2, 60), 2),
    "many labels": (logits_of(26, rows=400), RANDOM.integers(0, 26, 400), 26),
}


@pytest.mark.parametrize("case", CASES)
def test_single_label_metrics_are_those_of_the_references(case):
    """Also for tied, constant, and extreme probabilities."""
    logits, true, count = CASES[case]
    p = logits.softmax(-1).numpy()
    hits = p.argmax(-1)
    one_vs_rest = {"multi_class": "ovr"} if count > 2 else {}
    positive = p if count > 2 else p[:, 1]
    reference = {
        "log_loss": sklearn_metrics.log_loss(true, p, labels=range(count)),
        "brier": sklearn_metrics.brier_score_loss(true, positive, labels=range(count)),
        "ece": multiclass_calibration_error(torch.tensor(p), torch.tensor(true), count, 15).item(),
        "roc_auc": sklearn_metrics.roc_auc_score(true, positive, **one_vs_rest),
        "average_precision": sklearn_metrics.average_precision_score(
            np.eye(count)[true] if count > 2 else true, positive
        ),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(true, hits),
        "cohen_kappa": sklearn_metrics.cohen_kappa_score(true, hits),
        "quadratic_kappa": sklearn_metrics.cohen_kappa_score(true, hits, weights="quadratic"),
        "macro_precision": sklearn_metrics.precision_score(true, hits, average="macro", zero_division=0),
        "macro_recall": sklearn_metrics.recall_score(true, hits, average="macro", zero_division=0),
    }
    names = [*METRICS, *LABEL_METRICS]
    if count > 2:
        names.append("top_k_accuracy")
        reference["top_k_accuracy"] = sklearn_metrics.top_k_accuracy_score(true, p, k=2, labels=range(count))
    scores, _ = evaluate(SequenceClassification(metrics=names, top_k=2), logits, torch.from_numpy(true), count)
    assert scores == pytest.approx(reference, abs=1e-6)


def test_areas_leave_out_labels_without_rows():
    """The mean is over the labels that occur, as in torchmetrics."""
    logits, true = logits_of(3), torch.from_numpy(RANDOM.integers(0, 2, 60))
    p = logits.softmax(-1).numpy()
    expected = np.mean([sklearn_metrics.roc_auc_score(true == label, p[:, label]) for label in (0, 1)])
    scores, _ = evaluate(SequenceClassification(metrics=["roc_auc"]), logits, true, 3)
    assert scores["roc_auc"] == pytest.approx(expected, abs=1e-6)


def test_areas_of_a_single_true_label_are_undefined():
    """As in scikit-learn, nan is no number that could be taken for a result."""
    scores, _ = evaluate(SequenceClassification(metrics=["roc_auc"]), logits_of(2), torch.zeros(60, dtype=int), 2)
    assert math.isnan(scores["roc_auc"])


@pytest.mark.parametrize("name", ["cohen_kappa", "quadratic_kappa"])
def test_kappa_of_a_single_label_is_zero(name):
    """As for the Matthews correlation."""
    logits = torch.tensor([[1.0, 0.0]] * 4)
    scores, _ = evaluate(SequenceClassification(metrics=[name]), logits, torch.zeros(4, dtype=int), 2)
    assert scores[name] == 0


def test_unseen_labels_have_no_probability():
    """A label that the model does not have counts as an error of the greatest size."""
    task = SequenceClassification(metrics=["log_loss", "brier", "top_k_accuracy"], top_k=2)
    rows = Dataset.from_dict({TRUE_NAMES: ["new", "a"]})
    scores, _ = evaluate(task, torch.zeros(2, 4), torch.tensor([-100, 0]), 4, rows)
    epsilon = np.finfo("float32").eps
    assert scores["log_loss"] == pytest.approx((-math.log(epsilon) + math.log(4)) / 2)
    assert scores["brier"] == pytest.approx((1.25 + 0.75) / 2)
    assert scores["top_k_accuracy"] == 0


@pytest.mark.parametrize(("metric", "has_matrix"), [("log_loss", False), ("top_k_accuracy", False), ("roc_auc", True)])
def test_evaluation_holds_all_probabilities_only_if_a_metric_needs_them(metric, has_matrix):
    """Most metrics need one number per row."""
    task = SequenceClassification(metrics=[metric])
    outputs = task.reduce_logits(torch.zeros(2, 100), torch.zeros(2, dtype=int))
    assert ("scores" in outputs) == has_matrix
    assert all(values[0].numel() <= 20 for name, values in outputs.items() if name != "scores")


@pytest.mark.parametrize(("limit", "expected"), [(2, ["b", "c"]), (0, None), (9, ["b", "c", "a"])])
def test_predictions_list_the_most_probable_labels(limit, expected):
    """In descending order; of equal ones, the first."""
    task = SequenceClassification(max_probabilities=limit, metrics=["accuracy"])
    _, rows = evaluate(task, torch.tensor([[0.0, 2.0, 1.0]] * 2), torch.tensor([0, 1]), 3)
    values = torch.tensor([0.0, 2.0, 1.0]).softmax(-1).tolist()
    assert rows[0]["probability"] == pytest.approx(values[1])
    if expected is None:
        assert "probabilities" not in rows[0]
    else:
        assert [*rows[0]["probabilities"]] == expected
        assert rows[0]["probabilities"] == pytest.approx({name: values["abc".index(name)] for name in expected})


def test_metrics_of_probabilities_cannot_be_computed_from_rows_without_all_of_them():
    """Neither compare nor the user gets a number of the wrong rows."""
    task = SequenceClassification(metrics=["log_loss"], max_probabilities=2)
    _, rows = evaluate(task, torch.zeros(2, 3), torch.tensor([0, 1]), 3)
    assert "log_loss" not in task.row_metrics(NAMES[:3])
    with pytest.raises(ConfigError) as caught:
        task.metrics_from_predictions(rows, NAMES[:3])
    assert [problem.key for problem in caught.value.problems] == ["task.metrics"]


@pytest.mark.parametrize(
    ("options", "count", "key"),
    [
        ({"metrics": ["precision"]}, 3, "task.metrics"),
        ({"metrics": ["top_k_accuracy"]}, 5, "task.top_k"),
        ({"metrics": ["top_k_accuracy"], "top_k": 1}, 2, None),
    ],
)
def test_metrics_that_do_not_fit_the_labels_are_refused(options, count, key):
    """No metric is constant or changes its meaning with the data."""
    task = SequenceClassification(**options)
    if key is None:
        task.check_head(head(count))
        return
    with pytest.raises(ConfigError) as caught:
        task.check_head(head(count))
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize(
    ("options", "key"), [({"max_probabilities": -1}, "max_probabilities"), ({"top_k": 0}, "top_k")]
)
def test_settings_of_probabilities_are_checked(options, key):
    """Before anything is loaded."""
    assert [problem.key for problem in SequenceClassification(**options).check()] == [key]


# --- multi-label -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 3])
def test_multi_label_metrics_are_those_of_the_references(step):
    """The mean over labels, and the calibration of all probabilities together."""
    logits, true = logits_of(4, step=step), torch.tensor(RANDOM.random((60, 4)) < 0.4).float()
    p, y = logits.sigmoid().numpy(), true.numpy().astype(int)
    labels = range(4)
    reference = {
        "log_loss": np.mean([sklearn_metrics.log_loss(y[:, i], p[:, i], labels=[0, 1]) for i in labels]),
        "brier": np.mean([sklearn_metrics.brier_score_loss(y[:, i], p[:, i]) for i in labels]),
        "ece": binary_calibration_error(torch.tensor(p).ravel(), torch.tensor(y).ravel(), 15).item(),
        "roc_auc": sklearn_metrics.roc_auc_score(y, p, average="macro"),
        "average_precision": sklearn_metrics.average_precision_score(y, p, average="macro"),
    }
    scores, rows = evaluate(MultiLabelClassification(metrics=METRICS), logits, true, 4)
    assert scores == pytest.approx(reference, abs=1e-6)
    assert {*rows[0]["probabilities"]} == {*NAMES[:4]}


# --- words and choices -----------------------------------------------------------------------------------


def test_token_metrics_count_each_word_once():
    """The first token of each word that a window counts, and no padding."""
    task = TokenClassification(metrics=["log_loss", "brier", "top_k_accuracy", "ece", "balanced_accuracy"], top_k=2)
    columns = {
        "tokens": [["x", "y", "z"], []],  # two windows of one sentence
        "words": [[0, 1], [2]],
        "places": [[1, 3], [2]],
        "word_labels": [["a", "b", "c"], []],
    }
    logits = logits_of(3, rows=8).view(2, 4, 3)
    labels = torch.tensor([[-100, 0, -100, 1], [-100, -100, 2, -100]])
    outputs = {name: values.numpy() for name, values in task.reduce_logits(logits, labels).items()}
    scores = task.compute_metrics(EvalPrediction(outputs, None), EvalSplit(Dataset.from_dict(columns), head(3)))
    flat = SequenceClassification(metrics=task.metrics, top_k=2)
    words = torch.stack([logits[0, 1], logits[0, 3], logits[1, 2]])
    assert scores == pytest.approx(evaluate(flat, words, torch.tensor([0, 1, 2]), 3)[0], abs=1e-6)


def test_choice_metrics_are_those_of_labels():
    """The choices of a row are its labels."""
    task = MultipleChoice(metrics=["accuracy", "log_loss", "brier", "ece", "top_k_accuracy"])
    logits, labels = logits_of(3, rows=10), torch.from_numpy(RANDOM.integers(0, 3, 10))
    outputs = {name: values.numpy() for name, values in task.reduce_logits(logits, labels).items()}
    rows = Dataset.from_dict({"choices": [["x", "y", "z"]] * 10})
    prediction, evaluated = EvalPrediction(outputs, labels.numpy()), EvalSplit(rows, {})
    flat = SequenceClassification(metrics=task.metrics, top_k=2)
    assert task.compute_metrics(prediction, evaluated) == pytest.approx(evaluate(flat, logits, labels, 3)[0], abs=1e-6)
    (first, *_) = task.predictions_with_labels(prediction, evaluated)
    assert first["probabilities"] == pytest.approx(logits[0].softmax(-1).tolist())


# --- Trainer ---------------------------------------------------------------------------------------------

INPUTS = np.random.default_rng(1).integers(0, 100, (31, 4))
TRUE = np.arange(31) % 3


def tiny_bert():
    """A model of random weights, always the same ones."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=100, max_position_embeddings=8, num_labels=3, initializer_range=1.0, **sizes)
    return BertForSequenceClassification(config)


def evaluated_by_trainer(folder, batch_size=4):
    """Metrics of two evaluations by our Trainer, and the type of their matrix of probabilities."""
    data = Dataset.from_dict({"input_ids": INPUTS, "labels": TRUE})
    task, types = SequenceClassification(metrics=["roc_auc", "log_loss"]), []

    def compute(prediction):
        types.append(type(prediction.predictions["scores"]).__name__)
        return task.compute_metrics(prediction, EvalSplit(data, head(3)))

    args = Seq2SeqTrainingArguments(
        str(folder / "checkpoints"),
        per_device_eval_batch_size=batch_size,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(tiny_bert(), args, compute_metrics=compute, preprocess_logits_for_metrics=task.reduce_logits)
    metrics = [trainer.evaluate(data) for _ in range(2)]
    return [[scores["eval_roc_auc"], scores["eval_log_loss"]] for scores in metrics], types


def expected_of_trainer():
    """The same metrics of all logits."""
    with torch.no_grad():
        p = tiny_bert().eval()(input_ids=torch.tensor(INPUTS)).logits.softmax(-1).numpy()
    return [sklearn_metrics.roc_auc_score(TRUE, p, multi_class="ovr"), sklearn_metrics.log_loss(TRUE, p)]


@pytest.mark.parametrize("batch_size", [4, 64])
def test_trainer_holds_the_probability_matrix_in_a_file(batch_size, tmp_path):
    """Areas under curves are those of all logits, at any batch size; no file is left."""
    measured, types = evaluated_by_trainer(tmp_path, batch_size)
    assert types == ["memmap", "memmap"]
    assert not [*(tmp_path / "checkpoints").rglob("*")]
    for scores in measured:
        assert scores == pytest.approx(expected_of_trainer(), abs=1e-6)


@pytest.mark.slow
def test_two_processes_gather_the_probability_matrix(tmp_path):
    """Each process has all rows once, although two cannot divide their number."""
    for measured, _ in measured_by_two_ranks(evaluated_by_trainer, tmp_path):
        for scores in measured:
            assert scores == pytest.approx(expected_of_trainer(), abs=1e-6)


# --- sweeps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "direction"), [("log_loss", "minimize"), ("roc_auc", "maximize")])
def test_sweep_follows_the_direction_of_the_metric(toy, metric, direction):
    """Losses are minimized."""
    overrides = [f"task.metrics=[{metric}]", f"objective=eval_{metric}", "trainer.args.learning_rate=0.1,0.2"]
    plan, _ = make_plan(Request((*toy, *overrides)))
    assert plan.objectives == {f"eval_{metric}": direction}
