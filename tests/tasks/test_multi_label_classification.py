"""Multi-label classification: what a row may hold, what is predicted, what is measured."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from scipy.sparse import csr_matrix
from sklearn import metrics as sklearn_metrics
from transformers import EvalPrediction

from conftest import write_rows
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.metrics.multi_label import MULTI_LABEL, best_threshold
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.utils.errors import ConfigError


def rows(*labels):
    """A training split with these lists of labels."""
    return DatasetDict(train=Dataset.from_dict({"text": ["the film"] * len(labels), "labels": list(labels)}))


@pytest.fixture
def files(own_directory, tiny_model):
    """Overrides of a run: is a text of good words both kind and glad, or neither?"""
    words = {"great": ["kind", "glad"], "good": ["kind", "glad"], "awful": [], "bad": []}
    said = [{"text": f"the film was {word}", "labels": labels} for word, labels in words.items()]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"lists_{split}.jsonl", said * (8 if split == "train" else 1))
    model = ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}", "hardware=cpu"]
    names = [f"dataset.files.{split}=lists_{split}.jsonl" for split in ("train", "validation", "test")]
    fast = [f"trainer.args.{a}" for a in ("learning_rate=0.01", "num_train_epochs=10", "per_device_train_batch_size=8")]
    return ["dataset=local", "task=multi_label_classification", *names, *model, *fast]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_and_says_names(files, train, precision):
    """A run learns which labels a text has, also in bf16, and predictions are lists of names, empty ones too."""
    result = train(*files, f"hardware.precision={precision}")
    lines = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
    assert result.metrics["test_micro_f1"] == 1.0
    glad = ["glad", "kind"]
    probabilities = [line.pop("probabilities") for line in lines]
    for line, by_label in zip(lines, probabilities, strict=True):
        assert {*line["predictions"]} == {name for name, value in by_label.items() if value > 0.5}
    assert lines[0] == {"row": 0, "text": "the film was great", "labels": glad, "predictions": glad}
    assert lines[3] == {"row": 3, "text": "the film was bad", "labels": [], "predictions": []}


def test_another_problem_can_follow(files, toy, train):
    """A finished multi-label network starts a run on single labels, as its weights are good for both."""
    result = train(*files, "trainer.args.max_steps=1")
    model = f"model.pretrained_model_name_or_path={result.directory / 'model'}"
    assert "test_accuracy" in train(*toy, model, "trainer.args.max_steps=1", directory="next").metrics


def test_threshold_of_validation_is_taken_on_test(files, train):
    """The tuned threshold of validation is one that test's metrics and predictions are made with it."""
    result = train(*files, "task.tune_threshold=true", "trainer.args.max_steps=2")
    assert 0 < result.metrics["eval_threshold"] < 1
    lines = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
    hits = sum(len({*line["labels"]} & {*line["predictions"]}) for line in lines)
    either = sum(len(line["labels"]) + len(line["predictions"]) for line in lines)
    assert math.isclose(result.metrics["test_micro_f1"], 2 * hits / either)


def test_columns_of_indicators(own_directory, tiny_model, train):
    """Columns of 0 and 1 are labels that `dataset.labels` names."""
    said = [{"text": f"the {w} film", "toxic": int(w == "bad"), "kind": int(w == "good")} for w in ("good", "bad")]
    write_rows(own_directory / "a.jsonl", said * 6)
    result = train(
        "dataset=local",
        "task=multi_label_classification",
        "task.label_format=multi_hot",
        "dataset.columns.labels=[toxic,kind]",
        "dataset.labels=[toxic,kind]",
        *(f"dataset.files.{split}=a.jsonl" for split in ("train", "validation", "test")),
        "model=pretrained",
        f"model.pretrained_model_name_or_path={tiny_model}",
        "hardware=cpu",
        "trainer.args.max_steps=2",
    )
    lines = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
    assert [line["labels"] for line in lines[:2]] == [["kind"], ["toxic"]]


@pytest.mark.parametrize(
    ("labels", "options", "names", "row", "value"),
    [
        ([["a"], ["b"], None], {}, None, 2, "None"),
        ([["a", "b"], ["a", None]], {}, None, 1, "['a', None]"),
        ([["a"], ["bb"]], {}, ["a", "b"], 1, "'bb'"),
        ([[0, 1], [1, 1]], {}, ["a", "b"], 1, "[1, 1]"),
        ([[0, 1], [1]], {"label_format": "multi_hot"}, ["a", "b"], 1, "[1]"),
        ([[0, 1], [1, 2]], {"label_format": "multi_hot"}, ["a", "b"], 1, "[1, 2]"),
        ([[0, 1], [1, None]], {"label_format": "multi_hot"}, ["a", "b"], 1, "[1, None]"),
    ],
)
def test_bad_rows(labels, options, names, row, value):
    """No list, a hole in it, an unknown label, a label twice, indicators that are not one a label: the row is bad."""
    (bad,) = MultiLabelClassification(**options).bad_rows(rows(*labels), names)
    assert (bad.row, bad.column, bad.value) == (row, "labels", value)


def test_indicators_need_names():
    """Nobody can read predictions of labels without names."""
    with pytest.raises(ConfigError) as caught:
        list(MultiLabelClassification(label_format="multi_hot").bad_rows(rows([0, 1]), None))
    (problem,) = caught.value.problems
    assert problem.key == "dataset.labels"
    assert "dataset.labels=[a,b]" in problem.hints[0]


@pytest.mark.parametrize("threshold", [0, 1, 1.5])
def test_threshold_is_a_probability(threshold):
    """A threshold that predicts all or nothing is an error."""
    assert [m.key for m in MultiLabelClassification(threshold=threshold).check()] == ["threshold"]


def test_evaluation_keeps_a_byte_a_label():
    """Logits are reduced to truth values where the threshold is fixed."""
    kept = MultiLabelClassification(threshold=0.7).reduce_logits(torch.tensor([[0.5, 5.0]]).bfloat16(), None)
    assert (kept["predictions"].element_size(), kept["predictions"].tolist()) == (1, [[0, 1]])
    assert "scores" not in kept


CASES = {
    "usual": ([[1, 0, 1], [0, 1, 0]], [[1, 1, 0], [0, 1, 0]]),
    "nothing predicted": ([[1, 0], [0, 1]], [[0, 0], [0, 0]]),
    "nothing true": ([[0, 0], [0, 0]], [[1, 0], [0, 0]]),
    "nothing at all": ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
    "a label that never occurs": ([[1, 0], [1, 0]], [[1, 0], [0, 0]]),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_scikit_learn(case):
    """On awkward cases too, sparse label sets score what scikit-learn says of dense ones."""
    true, said = map(np.array, CASES[case])
    reference = {
        "micro_f1": sklearn_metrics.f1_score(true, said, average="micro", zero_division=0),
        "macro_f1": sklearn_metrics.f1_score(true, said, average="macro", zero_division=0),
        "subset_accuracy": sklearn_metrics.accuracy_score(true, said),
        **{
            f"{average}_{name}": function(true, said, average=average, zero_division=0)
            for average in ("micro", "macro")
            for name, function in (
                ("precision", sklearn_metrics.precision_score),
                ("recall", sklearn_metrics.recall_score),
            )
        },
    }
    inputs = {"references": csr_matrix(true), "predictions": csr_matrix(said)}
    values = {metric.name: metric.compute(inputs) for metric in MULTI_LABEL if not metric.needs_all_probabilities}
    assert values == pytest.approx(reference, abs=1e-6)


def test_best_threshold_is_the_best():
    """No threshold has a higher micro F1 than the tuned one, among ties too."""
    draw = np.random.default_rng(0)
    true, said = draw.random((40, 3)) < 0.3, (draw.random((40, 3)) * 10).astype("int").astype("float32") / 10
    scores = [sklearn_metrics.f1_score(true, said >= t, average="micro", zero_division=0) for t in np.unique(said)]
    best = sklearn_metrics.f1_score(true, said >= best_threshold(true, said), average="micro")
    assert best == pytest.approx(max(scores))


def test_tuning_on_a_validation_split_without_labels():
    """Where no label is true any threshold will do, and nothing warns."""
    task = MultiLabelClassification(tune_threshold=True)
    nothing = EvalPrediction({"scores": np.full((2, 2), 0.3, dtype="float32")}, np.zeros((2, 2), dtype="float32"))
    assert task.compute_metrics(nothing, EvalSplit(None, {"id2label": {0: "a", 1: "b"}})) == {
        "micro_f1": 0.0,
        "threshold": 0.5,
    }


def test_a_new_head_starts_at_the_shares_of_the_labels(tiny_model):
    """Before training, each label is as probable as it is frequent; a head that was trained is left as it is."""
    import torch
    from datasets import Dataset, DatasetDict

    from hydratune.models.pretrained import Pretrained
    from hydratune.tasks.base import EncodedData

    task, model = MultiLabelClassification(), Pretrained(pretrained_model_name_or_path=str(tiny_model))
    task._count = 3
    head = {"num_labels": 3, "problem_type": "multi_label_classification"}
    network = model.load_network(task.auto_model, model.load_config(), head)
    rows = Dataset.from_dict({"labels": [[0], [0, 1], [0], []] * 50})
    task.initialize(network, EncodedData(DatasetDict(train=rows), head))
    shares = network.module.classifier.bias.sigmoid()
    assert torch.allclose(shares, torch.tensor([0.75, 0.25, 0.0]), atol=0.01)
    task.initialize(network._replace(new=()), EncodedData(DatasetDict(train=rows.select([3])), head))
    assert torch.equal(network.module.classifier.bias.sigmoid(), shares)
