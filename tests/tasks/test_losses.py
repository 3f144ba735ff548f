"""Losses with weights of classes and rows: their values, those of one large batch, and errors of their settings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    Seq2SeqTrainingArguments,
    default_data_collator,
    set_seed,
)

from conftest import UPSTREAM, toy_rows, write_rows
from hydratune.config.validate import check_config
from hydratune.data.columns import ROW_WEIGHT
from hydratune.evaluation.evaluate import evaluate
from hydratune.evaluation.load_run import open_run
from hydratune.tasks import (
    ImageClassification,
    MultiLabelClassification,
    MultipleChoice,
    SequenceClassification,
    TokenClassification,
)
from hydratune.tasks.loss_settings import balanced_class_weights, balanced_pos_weights
from hydratune.tasks.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from hydratune.training.trainer.trainer import Trainer
from hydratune.utils.errors import ConfigError
from tracked import runs
from two_ranks import measured_by_two_ranks

# Upstream warns that it does not smooth these labels; the loss of the task does.
pytestmark = pytest.mark.filterwarnings("ignore:Label smoothing is not compatible with multi-label")

ROWS, LABELS = 10, 3
LABEL_WEIGHTS = (0.5, 3.0, 1.5)
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {
    "rows": (BertForSequenceClassification, "single_label_classification"),
    "tokens": (BertForTokenClassification, None),
    "multi_label": (BertForSequenceClassification, "multi_label_classification"),
    "numbers": (BertForSequenceClassification, "regression"),
}
CLASSES = ("rows", "tokens", "multi_label")  # kinds with class weights and focal loss
CASES = {
    "class weights": (LABEL_WEIGHTS, None, False, 0.0),
    "row weights": (None, None, True, 0.0),
    "focal": (None, 2.0, False, 0.0),
    "smoothed focal with all weights": (LABEL_WEIGHTS, 0.5, True, 0.2),
}
PAIRS = [*((kind, case) for kind in CLASSES for case in CASES), ("numbers", "row weights")]
# The test of two processes takes the first and the last case.
DISTRIBUTED = [(kind, case) for kind, case in PAIRS if case in ("class weights", [*CASES][-1]) or kind == "numbers"]


def rows(kind):
    """Ten rows of six tokens with labels of a kind and uneven weights; one row has weight 0 and one has no label."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (ROWS, 6), generator=generator)
    if kind == "rows":
        labels = ids[:, 0] % LABELS
    elif kind == "tokens":
        labels = (ids % LABELS).masked_fill(torch.arange(6) >= (3 * torch.arange(ROWS) % 7)[:, None], -100)
    elif kind == "numbers":
        labels = torch.rand(ROWS, generator=generator)
    else:
        labels = torch.randint(2, (ROWS, LABELS), generator=generator).float()
    weights = [0.0, *torch.rand(ROWS - 1, generator=generator).mul(5).tolist()]
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist(), ROW_WEIGHT: weights})


def model(kind):
    """A model whose logits differ between rows."""
    set_seed(1)
    model_class, problem_type = KINDS[kind]
    options = {"num_labels": 1 if kind == "numbers" else LABELS, "problem_type": problem_type}
    network = model_class(BertConfig(vocab_size=9, **SIZES, **NO_DROPOUT, **options))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(5 if weight.dim() > 1 else 1)
    return network


def loss(kind, case):
    """The loss of the tasks."""
    label_weights, gamma, has_row_weights, _ = CASES[case]
    loss_class = {"multi_label": BinaryCrossEntropy, "numbers": SquaredError}.get(kind, CrossEntropy)
    return loss_class(focal_gamma=gamma, label_weights=label_weights, has_row_weights=has_row_weights)


def reference(network, kind, case):
    """The loss of one batch of all rows, by torch's functions alone."""
    label_weights, gamma, has_row_weights, smoothing = CASES[case]
    batch = {name: torch.tensor(values) for name, values in rows(kind).to_dict().items()}
    logits, labels, row_weights = network(batch["input_ids"]).logits, batch["labels"], batch[ROW_WEIGHT]
    label_weights = None if label_weights is None else torch.tensor(label_weights)
    row_weights = row_weights if has_row_weights else torch.ones(ROWS)
    if kind == "multi_label":
        targets = labels * (1 - smoothing) + smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=label_weights, reduction="none"
        )
        true = torch.where(labels == 1, logits.sigmoid(), 1 - logits.sigmoid())
        return ((losses * (1 - true) ** (gamma or 0)).mean(-1) * row_weights).sum() / row_weights.sum()
    if kind == "numbers":
        return (functional.mse_loss(logits[:, 0], labels, reduction="none") * row_weights).sum() / row_weights.sum()
    counts = labels != -100
    row_weights = row_weights.view(-1, *[1] * (labels.dim() - 1)).expand(labels.shape)[counts]
    logits, labels = logits[counts], labels[counts]
    losses = functional.cross_entropy(logits, labels, label_weights, label_smoothing=smoothing, reduction="none")
    true = logits.softmax(-1).gather(-1, labels[:, None])[:, 0]
    item_weights = row_weights * (1 if label_weights is None else label_weights[labels])
    return (losses * (1 - true) ** (gamma or 0) * row_weights).sum() / item_weights.sum()


def trainer(folder, kind, case, size=ROWS, steps=1, **more):
    """A Trainer with plain descent, which does not forgive a gradient of the wrong size."""
    args = Seq2SeqTrainingArguments(
        str(folder),
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size,
        gradient_accumulation_steps=steps,
        optim="sgd",
        learning_rate=0.5,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        num_train_epochs=1,
        label_smoothing_factor=CASES[case][3],
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **more,
    )
    data = rows(kind) if CASES[case][2] else rows(kind).remove_columns(ROW_WEIGHT)
    made = Trainer(model=model(kind), args=args, data_collator=default_data_collator, train_dataset=data)
    made.loss = loss(kind, case)
    return made


def flat(network):
    """All weights of a model."""
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def after_step(kind, case):
    """The weights after one step of descent on one batch of all rows, and the loss before it."""
    network = model(kind)
    whole = reference(network, kind, case)
    whole.backward()
    with torch.no_grad():
        for weight in network.parameters():
            weight -= 0.5 * (0 if weight.grad is None else weight.grad)
    return flat(network), whole.item()


@pytest.mark.parametrize(("kind", "case"), PAIRS)
def test_step_over_micro_batches_is_that_of_one_batch(tmp_path, kind, case):
    """Weights and loss agree, also if a micro-batch has no weight, or no label."""
    expected, whole = after_step(kind, case)
    for size in (3, 1):
        trained = trainer(tmp_path, kind, case, size, -(-ROWS // size))
        assert trained.train().training_loss == pytest.approx(whole, rel=1e-5)
        assert torch.allclose(flat(trained.model), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("kind", "case"), PAIRS)
def test_eval_loss_is_that_of_one_batch(tmp_path, kind, case):
    """At any batch size it is the weighted mean over all rows."""
    for size in (4, 1):
        evaluated = trainer(tmp_path, kind, case, size)
        expected = reference(evaluated.model.eval(), kind, case).item()
        assert evaluated.evaluate(evaluated.train_dataset)["eval_loss"] == pytest.approx(expected, rel=1e-6)


def measured(folder):
    """What one of two processes reports of each loss: weights after a step over all rows, and the loss of an evaluation."""
    found = {}
    for kind, case in DISTRIBUTED:
        evaluated = trainer(folder, kind, case, 3)
        trained = trainer(folder, kind, case, 1, ROWS // 2)
        found[f"{kind}, {case}"] = [
            evaluated.evaluate(evaluated.train_dataset)["eval_loss"],
            trained.train().training_loss,
            *flat(trained.model).tolist(),
        ]
    return found


@pytest.mark.slow
def test_losses_of_two_processes_are_those_of_one_batch(tmp_path):
    """Gradients and losses of two processes are those of one batch of all rows."""
    for rank, reported in enumerate(measured_by_two_ranks(measured, tmp_path)):
        for kind, case in DISTRIBUTED:
            expected, whole = after_step(kind, case)
            evaluated, trained, *weights = reported[f"{kind}, {case}"]
            assert evaluated == pytest.approx(whole, rel=1e-5)
            assert trained == pytest.approx(whole, rel=1e-5)
            assert torch.allclose(torch.tensor(weights), expected, atol=2e-6, rtol=0), (rank, kind, case)


@pytest.mark.parametrize("kind", CLASSES)
def test_focal_loss_with_exponent_0_is_cross_entropy(kind):
    """The definitions agree where they overlap, with weights and smoothing."""
    case = "smoothed focal with all weights"
    batch = {name: torch.tensor(values) for name, values in rows(kind).to_dict().items()}
    logits = model(kind)(batch["input_ids"]).logits
    focal, plain = (type(loss(kind, case))(gamma, LABEL_WEIGHTS, True) for gamma in (0.0, None))
    assert focal.weighted_sum(logits, batch, 0.1).item() == pytest.approx(plain.weighted_sum(logits, batch, 0.1).item())


@pytest.mark.parametrize("loss_class", [CrossEntropy, BinaryCrossEntropy])
def test_focal_loss_has_finite_gradients_where_the_label_is_certain(loss_class):
    """The derivative of (1 - p)^0.5 is infinite at p = 1."""
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    labels = torch.tensor([0]) if loss_class is CrossEntropy else torch.tensor([[1.0, 0.0]])
    loss_class(focal_gamma=0.5).weighted_sum(logits, {"labels": labels}, 0.0).backward()
    assert torch.isfinite(logits.grad).all()


def test_rows_without_weight_do_not_count(tmp_path):
    """A step over rows of weight 0 changes nothing."""
    trained = trainer(tmp_path, "rows", "row weights")
    trained.train_dataset = rows("rows").select([0, 0])
    before = flat(trained.model)
    trained.train()
    assert torch.equal(flat(trained.model), before)


# --- weights of labels -----------------------------------------------------------------------------------


def test_balanced_class_weights_are_those_of_sklearn():
    """They are inverse to the counts of the labels."""
    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_class_weights(labels, ["a", "b", "c"]) == pytest.approx(expected)


def test_balanced_pos_weights_are_ratios_of_rows():
    """A label of one row in four has weight 3."""
    assert balanced_pos_weights(np.array([0, 1, 1]), 4, ["a", "b"]) == (3.0, 1.0)


def test_balanced_class_weights_are_undefined_for_classes_without_labels():
    """The weight would be infinite."""
    with pytest.raises(ConfigError) as caught:
        balanced_class_weights(np.array([0, 0]), ["a", "b"])
    assert [problem.key for problem in caught.value.problems] == ["task.class_weights"]


@pytest.mark.parametrize("labels", [[0], [0, 0, 1]])
def test_balanced_pos_weights_are_undefined_for_labels_of_no_or_all_rows(labels):
    """The weight would be infinite or 0."""
    with pytest.raises(ConfigError) as caught:
        balanced_pos_weights(np.array(labels), 2, ["a", "b"])
    assert [problem.key for problem in caught.value.problems] == ["task.pos_weight"]


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    """The tokenizer of the tiny model."""
    return AutoTokenizer.from_pretrained(tiny_model)


def prepared(task, tokenizer, **columns):
    """The data of a task whose training rows have these columns."""
    return task.prepare(DatasetDict(train=Dataset.from_dict(columns)), tokenizer, None, None)


def test_prepare_orders_class_weights_by_name(tokenizer):
    """A name that is not listed has weight 1; YAML reads the names 1 and true as other types."""
    texts = {"text": ["good", "bad", "film"], "label": ["b", "a", "1"]}
    data = prepared(SequenceClassification(class_weights={"b": 4, 1: 2}), tokenizer, **texts)
    assert dict(zip(data.head["id2label"].values(), data.loss.label_weights, strict=True)) == {"1": 2, "a": 1, "b": 4}


@pytest.mark.parametrize("weights", [{"pso": 2.0}, [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("task_class", [SequenceClassification, MultiLabelClassification])
def test_prepare_refuses_weights_that_do_not_fit_the_labels(tokenizer, task_class, weights):
    """An unknown name, or a list of another length."""
    is_single = task_class is SequenceClassification
    key = "class_weights" if is_single else "pos_weight"
    labels = {"label": ["pos", "neg"]} if is_single else {"labels": [["pos"], ["neg"]]}
    with pytest.raises(ConfigError) as caught:
        prepared(task_class(**{key: weights}), tokenizer, text=["good", "bad"], **labels)
    (problem,) = caught.value.problems
    assert problem.key == f"task.{key}"
    assert ("pos" in problem.hint) if isinstance(weights, dict) else ("3" in problem.text and "2" in problem.text)


def test_prepare_refuses_balanced_weights_without_training_rows(tokenizer):
    """Data to evaluate on does not determine the weights."""
    data = DatasetDict(test=Dataset.from_dict({"text": ["good", "bad"], "label": ["pos", "neg"]}))
    with pytest.raises(ConfigError) as caught:
        SequenceClassification(class_weights="balanced").prepare(data, tokenizer, None, None)
    assert [problem.key for problem in caught.value.problems] == ["task.class_weights"]


def test_prepare_counts_labels_of_words_once(tokenizer):
    """`balanced` counts words, not their pieces or padding."""
    words = {"tokens": [["good", "film"], ["bad"]], "labels": [["O", "B-x"], ["O"]]}
    data = prepared(TokenClassification(class_weights="balanced"), tokenizer, **words)
    assert data.loss.balanced == {"class_weights": {"B-x": 1.5, "O": 0.75}}


def test_initialize_starts_with_the_weighted_odds(tokenizer, tiny_model):
    """With `balanced`, each label starts at a probability of one half."""
    from hydratune.models.base import Network

    task = MultiLabelClassification(pos_weight="balanced")
    labels = [["a"]] * 200 + [["b"]] * 600 + [[]] * 200
    data = prepared(task, tokenizer, text=["good"] * 1000, labels=labels)
    network = BertForSequenceClassification.from_pretrained(tiny_model, num_labels=2)
    task.initialize(Network(network, ("classifier.weight", "classifier.bias")), data)
    assert network.classifier.bias.sigmoid().tolist() == pytest.approx([0.5, 0.5], abs=1e-2)


@pytest.mark.parametrize(
    ("task", "key"),
    [
        (SequenceClassification(class_weights=[1.0, -1.0]), "class_weights"),
        (ImageClassification(class_weights={"a": float("nan")}), "class_weights"),
        (TokenClassification(class_weights={"O": "much"}), "class_weights"),
        (MultiLabelClassification(pos_weight=[0.0, 1.0]), "pos_weight"),
        (SequenceClassification(loss="focal", focal_gamma=-1.0), "focal_gamma"),
    ],
)
def test_check_refuses_weights_and_exponents_below_0(task, key):
    """These errors need no data."""
    assert [problem.key for problem in task.check()] == [key]


# --- weights of rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-1.0, None, float("nan")])
def test_bad_rows_include_weights_that_are_missing_or_negative(weight):
    """They are errors of rows, with their numbers."""
    data = Dataset.from_dict({"text": ["good", "bad"], "label": ["a", "b"], ROW_WEIGHT: [1.0, weight]})
    bad = [*SequenceClassification().bad_rows(DatasetDict(train=data), None)]
    assert [(row.row, row.column) for row in bad] == [(1, ROW_WEIGHT)]


def test_windows_have_the_weight_of_their_sentence(tokenizer):
    """A long sentence has several windows."""
    words = {"tokens": [["good"] * 12, ["bad"]], "labels": [["O"] * 12, ["B-x"]], ROW_WEIGHT: [2, 3]}
    task = TokenClassification(stride=0)
    data = task.prepare(DatasetDict(train=Dataset.from_dict(words)), tokenizer, 8, None)
    assert data.splits["train"][ROW_WEIGHT] == [2.0, 2.0, 3.0]


def test_collator_of_choices_has_the_weights_of_rows(tokenizer):
    """The collator of transformers only takes columns with a value for each choice."""
    rows = {"text": ["good", "bad"], "choices": [["film", "book"]] * 2, "label": [0, 1], ROW_WEIGHT: [2, 3]}
    task = MultipleChoice()
    encoded = prepared(task, tokenizer, **rows).splits["train"].remove_columns("choices")
    batch = task.collator(tokenizer)([*encoded])
    assert batch[ROW_WEIGHT].tolist() == [2.0, 3.0]
    assert batch["input_ids"].shape[:2] == (2, 2)


def test_rows_of_a_mixture_without_weights_count_once(tokenizer):
    """`datasets` fills the column with null where a source does not have it."""
    texts = {"text": ["good", "bad"], "label": ["a", "b"], ROW_WEIGHT: [2.5, None]}
    assert prepared(SequenceClassification(), tokenizer, **texts).splits["train"][ROW_WEIGHT] == [2.5, 1.0]


# --- runs ------------------------------------------------------------------------------------------------


def split_rows(rows):
    """Rows with weights, of which most are of one label."""
    return [{**row, "importance": i % 3} for i, row in enumerate(rows) if row["label"] == "neg" or i % 4 == 0]


@pytest.fixture
def weighted(toy):
    """Overrides of a run on uneven labels, with weights of rows and of classes."""
    for split, split_part in toy_rows().items():
        write_rows(Path(f"{split}.jsonl"), split_rows(split_part))
    return [*toy, "dataset.columns.weight=importance", "task.class_weights=balanced", "task.loss=focal"]


def test_run_records_balanced_weights_for_evaluate(train, weighted, store):
    """The loss on other data is weighted by the labels of train, which are not read again."""
    result = train(*weighted, "trainer.args.max_steps=2")
    labels = [row["label"] for row in split_rows(toy_rows()["train"])]
    values = compute_class_weight("balanced", classes=np.array(["neg", "pos"]), y=labels)
    expected = dict(zip(["neg", "pos"], map(float, values), strict=True))
    metrics = json.loads((result.directory / "metrics.json").read_text())
    assert metrics["balanced_weights"] == {"class_weights": pytest.approx(expected)}
    assert runs(store)[0].data.params["class_weights"] == str(expected)
    Path("test.jsonl").rename("other.jsonl")
    Path("train.jsonl").unlink()
    scored = evaluate(open_run(str(result.directory), ""), ["dataset=local", "dataset.files.test=other.jsonl"])
    assert scored.metrics["loss"] != pytest.approx(result.metrics["test_loss"])  # the rows have no weights
    columns = ["dataset=local", "dataset.files.test=other.jsonl", "dataset.columns.weight=importance"]
    scored = evaluate(open_run(str(result.directory), ""), columns)
    assert scored.metrics["loss"] == pytest.approx(result.metrics["test_loss"], rel=1e-5)


def test_column_called_weight_is_no_weight_by_itself(train, toy):
    """It may be any quantity; only `dataset.columns.weight` makes it one."""
    expected = train(*toy, "trainer.args.max_steps=2").metrics["eval_loss"]
    for split, split_part in toy_rows().items():
        write_rows(Path(f"{split}.jsonl"), [{**row, "weight": i} for i, row in enumerate(split_part)])
    assert train(*toy, "trainer.args.max_steps=2", directory="next").metrics["eval_loss"] == expected
    named = [*toy, "trainer.args.max_steps=2", "dataset.columns.weight=weight"]
    assert train(*named, directory="named").metrics["eval_loss"] != expected


def test_sweep_compares_losses(sweep):
    """Each trial has its own loss."""
    code, trials = sweep("task.loss=cross_entropy,focal", "task.class_weights=null,[1,5]", "objective=eval_loss")
    assert code == 0
    assert len({trial.value for trial in trials}) == 4


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([*UPSTREAM, "task.loss=focal"], "trainer._target_"),
        (["task.class_weights={nge:1}"], "task.class_weights"),
    ],
)
def test_run_refuses_losses_that_it_cannot_compute(train, toy, overrides, key):
    """Before training."""
    with pytest.raises(ConfigError) as caught:
        train(*toy, *overrides)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_check_config_refuses_class_weights_of_regression(compose):
    """Numbers have no classes."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("experiment=wordnet_regression", "+task.class_weights=balanced"))
    assert [problem.key for problem in caught.value.problems] == ["task.class_weights"]
