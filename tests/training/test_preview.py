"""Facts of `hydratune check`: token lengths, labels, parameters, steps, memory, and operations."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from conftest import write_rows
from hydratune.config.composition import without_hydra
from hydratune.training import estimates
from hydratune.training.estimates import Estimates, Schedule, Workload, estimate
from hydratune.training.preview import SAMPLE, percentile, preview


@pytest.fixture
def shown(compose, toy):
    """Composes overrides of a toy run and returns its facts."""
    return lambda *overrides: preview(without_hydra(compose(*toy, *overrides)), None)


def test_preview_of_a_toy_run(shown, tiny_model):
    """Rows, tokens with the two special ones, label shares, parameters with the head, and steps."""
    facts = shown()
    assert facts.rows == {"train": 32, "validation": 24, "test": 16}
    assert (facts.tokens.median, facts.tokens.p95, facts.tokens.longest) == (7, 7, 7)
    assert (facts.tokens.truncated, facts.tokens.limit, facts.sampled) == (0, 32, 32)
    assert (facts.labels.shares, facts.labels.sampled) == ({"neg": 0.5, "pos": 0.5}, False)
    assert (facts.schedule.batch_size, facts.schedule.per_epoch, facts.schedule.steps) == (32, 1, 2)
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=2)
    assert facts.parameters == facts.trainable == sum(parameter.numel() for parameter in model.parameters())
    assert facts.estimates.state_bytes == 16 * facts.parameters  # weights, gradients, two moments


def test_preview_counts_truncated_rows_and_trainable_parameters(shown):
    """Lengths are those before truncation; LoRA trains its matrices and the head."""
    facts = shown("task.max_length=6", "adapter=lora")
    assert (facts.tokens.truncated, facts.tokens.longest, facts.tokens.limit) == (1, 7, 6)
    assert 0 < facts.trainable < facts.parameters
    assert facts.estimates.batch_tokens == 6


def test_preview_samples_rows_but_counts_all_labels(shown, own_directory):
    """A rare label after the sampled rows is in the head, and its share is exact."""
    rows = [{"text": "good film", "label": "neg"}] * (2 * SAMPLE) + [{"text": "bad", "label": "pos"}]
    write_rows(own_directory / "train.jsonl", rows)
    facts = shown()
    assert facts.sampled == SAMPLE + 1
    assert facts.labels.shares == {"neg": pytest.approx(2000 / 2001), "pos": pytest.approx(1 / 2001)}
    assert facts.schedule.per_epoch == 63


def test_preview_estimates_steps_of_packed_rows(compose, tiny_gpt, own_directory):
    """Packing makes fewer inputs than rows, so their number is that of the sample, times its share."""
    write_rows(own_directory / "train.jsonl", [{"text": "abcdefg"}] * 4000)
    overrides = ["dataset=local", "dataset.files.train=train.jsonl", "task=causal_lm", "task.block_size=32", *tiny_gpt]
    facts = preview(without_hydra(compose(*overrides, "trainer.args.max_steps=-1")), None)
    assert facts.tokens.truncated is None
    assert facts.tokens.inputs_per_row == pytest.approx(8 / 32, abs=0.01)  # seven bytes and the end
    assert facts.schedule.per_epoch == pytest.approx(3600 / 4 / 32, abs=1)


class _Linear(nn.Module):
    """A linear layer with a loss, which stores its input for the backward pass."""

    def __init__(self):
        super().__init__()
        with torch.device("meta"):
            self.layer = nn.Linear(16, 4, bias=False)

    def forward(self, x):
        return SimpleNamespace(loss=self.layer(x).sum())


@pytest.fixture
def linear():
    """The workload of a linear layer, and a schedule of ten steps of eight rows in fp32 on a CPU."""

    def collate(rows):
        return {"x": torch.stack([row["x"] for row in rows])}

    module = _Linear()
    workload = Workload(module, module, None, False, collate, [{"x": torch.zeros(16), "other": 1}])
    args = SimpleNamespace(
        optim=SimpleNamespace(value="adamw_torch"),
        device=torch.device("cpu"),
        activation_checkpointing=False,
        remove_unused_columns=True,
        train_batch_size=8,
        bf16=False,
        fp16=False,
    )
    return workload, Schedule(args, 16, 5, 10, 1)


def test_estimate_counts_operations_and_bytes(linear, monkeypatch):
    """Forward and weight gradient are 2 x 8 x 16 x 4 operations each; two batches make a step."""
    monkeypatch.setattr(estimates, "matmul_flops", lambda *_: 1000.0)
    numbers = estimate(*linear)
    assert numbers.flops == 2 * 2 * (2 * 8 * 16 * 4)
    assert numbers.seconds == numbers.flops * 10 / 1000
    assert numbers.activation_bytes == 8 * 16 * 4
    assert (numbers.state_bytes, numbers.has_moments) == (16 * 64, True)


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"activation_checkpointing": True}, ("activation_bytes", "seconds")),
        ({"processes": 2}, ("seconds",)),
        ({"is_quantized": True}, ("state_bytes", "activation_bytes", "seconds")),
    ],
)
def test_estimate_without_a_basis_is_missing_with_a_reason(linear, changed, missing):
    """No number is made up."""
    workload, schedule = linear
    for name, value in changed.items():
        owner = next(part for part in (workload, schedule, schedule.args) if hasattr(part, name))
        object.__setattr__(owner, name, value)
    numbers = estimate(workload, schedule)
    empty = Estimates()
    assert {name for name in ("state_bytes", "activation_bytes", "seconds") if getattr(numbers, name) is None} == {
        *missing
    }
    assert numbers.reason != empty.reason


def test_estimate_of_a_model_that_reads_values_has_a_reason(linear):
    """The meta device has no values."""
    workload, schedule = linear
    workload.network.forward = lambda x: SimpleNamespace(loss=x.sum() if x.any() else x.mean())
    numbers = estimate(workload, schedule)
    assert (numbers.activation_bytes, numbers.seconds) == (None, None)
    assert numbers.reason
    assert numbers.state_bytes


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (95, 10), (100, 10), (1, 1)])
def test_percentile_is_a_value_of_the_sample(percent, value):
    """The smallest one that so many percent do not exceed."""
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == value
