"""Batches that do not fit are split, before training, into parts that teach the same."""

import gc
import json
import re
import weakref
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Seq2SeqTrainingArguments

from hydratune.training.hardware import batch_size
from hydratune.training.trainer.trainer import Trainer
from hydratune.utils.errors import ConfigError

GB = 10**9
BATCH = "trainer.args.per_device_train_batch_size"


class Hungry(nn.Module):
    """A network that runs out of memory where a batch has more than `most` rows."""

    def __init__(self, most, message="CUDA out of memory. Tried to allocate 2 GiB."):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(1))  # as batch norm has
        self.most, self.message, self.asked = most, message, []

    def forward(self, x, labels=None):
        """X (batch, 4) float32, labels (batch,) int64."""
        if self.training:
            self.asked.append(len(x))
            self.seen += len(x)
        if len(x) > self.most:
            raise torch.OutOfMemoryError(self.message) if "CUDA" in self.message else RuntimeError(self.message)
        logits = nn.functional.dropout(self.layer(x), 0.5, self.training)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer_of(network, tmp_path, rows=16, **arguments):
    """A Trainer of that many random rows."""
    data = Dataset.from_dict({"x": torch.rand(rows, 4).tolist(), "labels": [i % 2 for i in range(rows)]})
    args = Seq2SeqTrainingArguments(tmp_path, use_cpu=True, **{"per_device_train_batch_size": 8, **arguments})
    return Trainer(model=network, args=args, train_dataset=data)


def tight(trainer):
    """A memory in which the estimate of the whole batch is close, so that it is tried."""
    found = batch_size.longest_rows(trainer)
    kept = [batch_size.kept_bytes(trainer, found, size) for size in (2, 4)]
    weights = 3 * sum(4 * one.numel() for one in trainer.model.parameters())
    return round((2 * kept[0] - kept[1] + weights + 8 * 1.5 * (kept[1] - kept[0]) / 2) / 0.7)


def test_the_network_goes_with_its_run(tmp_path):
    """Looking whether a batch fits keeps nothing: a worker that trains hundreds of networks holds one."""
    trainer = trainer_of(Hungry(99), tmp_path)
    assert batch_size.fit_batch_size(trainer, 10 * GB) == []
    weight = weakref.ref(trainer.model.layer.weight)
    del trainer
    gc.collect()
    assert weight() is None


@pytest.mark.parametrize(
    "message", ["CUDA out of memory.", "[enforce fail] DefaultCPUAllocator: can't allocate memory"]
)
def test_the_largest_part_that_fits(tmp_path, message):
    """Five rows fit: parts of four, and two of them, before a single step."""
    network = Hungry(5, message)
    trainer = trainer_of(network, tmp_path, gradient_accumulation_steps=2)
    memory = tight(trainer)
    network.asked.clear()
    words = batch_size.fit_batch_size(trainer, memory)
    assert words == ["batches of 8 split into micro-batches of 4 (memory)"]
    assert network.asked == [2, 4, 8]
    assert (trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps) == (4, 4)
    trainer.train()
    assert trainer.state.global_step == 3 * 1
    assert max(network.asked[3:]) == 4


def test_what_fits_is_not_tried(tmp_path):
    """With memory to spare an estimate by one small forward pass is all that it costs."""
    network = Hungry(8)
    assert batch_size.fit_batch_size(trainer_of(network, tmp_path), 100 * GB) == []
    assert network.asked == [2]


def test_where_not_even_an_estimate_fits(tmp_path):
    """The parts are tried one by one."""
    network = Hungry(1)
    assert batch_size.fit_batch_size(trainer_of(network, tmp_path), 100 * GB) == [
        "batches of 8 split into micro-batches of 1 (memory)"
    ]
    assert network.asked == [2, 8, 4, 2, 1]


def test_what_cannot_fit_is_not_tried_either(tmp_path):
    """On a CPU a process that takes too much is killed."""
    network = Hungry(8)
    trainer = trainer_of(network, tmp_path)
    with pytest.raises(ConfigError) as caught:
        batch_size.fit_batch_size(trainer, 10)
    (problem,) = caught.value.problems
    assert problem.key == BATCH
    assert "1e-08 GB" in problem.message
    assert "task.max_length" not in problem.hint
    assert network.asked == [2, 4]


@pytest.mark.parametrize(("averaging", "is_tried"), [(None, False), ("ema", True)])
def test_fit_batch_size_counts_an_average(tmp_path, averaging, is_tried):
    """A memory for weights, gradients, and moments, but not for an average, is tried with more than a sample."""
    network, count = Hungry(99), 10**6
    network.large = nn.Parameter(torch.zeros(count))
    trainer = trainer_of(network, tmp_path)
    averaged = Trainer(model=network, args=trainer.args, train_dataset=trainer.train_dataset, averaging=averaging)
    memory = round(14 * count / batch_size.CERTAIN)  # 4 bytes for a gradient, 8 for moments, and 4 for an average
    assert batch_size.fit_batch_size(averaged, memory) == []
    assert (max(network.asked) > 2) == is_tried


def test_the_search_leaves_no_trace(tmp_path):
    """Weights, buffers, gradients and random numbers are as before, where a part is found and where none is."""
    for most, expected in ((5, ["batches of 8 split into micro-batches of 4 (memory)"]), (8, [])):
        network = Hungry(most)
        trainer = trainer_of(network, tmp_path)
        memory = tight(trainer)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.eval()
        torch.manual_seed(7)
        wanted = torch.rand(3)
        torch.manual_seed(7)
        assert batch_size.fit_batch_size(trainer, memory) == expected
        assert torch.equal(torch.rand(3), wanted)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert all(one.grad is None for one in network.parameters())
        assert not network.training


def test_other_errors_are_told(tmp_path):
    """Only what says that memory ran out is taken for that."""
    trainer = trainer_of(Hungry(5, "mat1 and mat2 shapes cannot be multiplied"), tmp_path)
    memory = tight(trainer)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        batch_size.fit_batch_size(trainer, memory)


@pytest.mark.parametrize(
    ("whole", "most", "fits", "size"), [(32, 32, 9, 8), (32, 4, 9, 4), (6, 6, 4, 3), (7, 7, 6, 1), (8, 8, 0, 0)]
)
def test_parts_are_equal(whole, most, fits, size):
    """A divisor of the batch, so that a step keeps its size."""
    assert batch_size.largest_divisor_that_fits(whole, most, lambda one: one <= fits) == size


def test_a_checkpoint_keeps_its_parts(tmp_path):
    """A run that goes on adds up gradients in the order in which it did before."""
    (tmp_path / "trainer_state.json").write_text(json.dumps({"train_batch_size": 4}))
    trainer = trainer_of(Hungry(8), tmp_path)
    assert batch_size.fit_batch_size(trainer, 100 * GB, str(tmp_path)) == [
        "batches of 8 split into micro-batches of 4 (memory)"
    ]


def test_the_longest_rows_set_the_shape(tmp_path):
    """The row with the most tokens is tried, whatever its place."""
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=2
    )
    data = Dataset.from_dict({"input_ids": [[1], [1, 2, 3, 4], [2]], "labels": [0, 1, 0]})
    args = Seq2SeqTrainingArguments(tmp_path, use_cpu=True)
    trainer = Trainer(model=BertForSequenceClassification(config), args=args, train_dataset=data)
    assert [row["input_ids"] for row in batch_size.longest_rows(trainer)] == [[1, 2, 3, 4]]


def test_a_run_whose_batch_fits_is_the_same_without_a_search(train, toy):
    """Bit for bit."""
    found = [train(*toy, f"hardware.auto_micro_batch={on}", directory=on) for on in ("true", "false")]
    first, second = ((one.directory / "model" / "model.safetensors").read_bytes() for one in found)
    assert first == second


def test_a_run_that_is_short_of_memory_says_so(train, toy, monkeypatch, caplog):
    """Its line tells the parts; its steps are as many as with the whole batch."""
    caplog.set_level("INFO")
    whole = train(*toy, f"{BATCH}=8", directory="whole")
    monkeypatch.setattr(batch_size, "fitting_estimate", lambda *_: lambda size: size <= 4)
    result = train(*toy, f"{BATCH}=8")
    assert any(m.endswith("batches of 8 split into micro-batches of 4 (memory)") for m in caplog.messages)
    assert result.metrics["step"] == whole.metrics["step"]


def test_nothing_is_trained_where_nothing_fits(train, toy, monkeypatch):
    """One message, and no checkpoint."""
    monkeypatch.setattr("hydratune.training.hardware.hardware.free_memory", lambda: 1000)
    with pytest.raises(ConfigError) as caught:
        train(*toy)
    (problem,) = caught.value.problems
    assert problem.key == BATCH
    assert re.search(r"\d+ tokens", problem.message)
    assert "task.max_length" in problem.hint
    assert not list(Path("run").rglob("checkpoint-*"))
