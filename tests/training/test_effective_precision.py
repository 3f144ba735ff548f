"""The precision of training and evaluation is recorded, and evaluation in fp32 uses no autocast."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from conftest import UPSTREAM
from hydratune.cli.evaluate import main
from hydratune.tracking.client import connect
from hydratune.training.effective_precision import full_precision, precisions
from hydratune.utils.errors import ConfigError

BF16 = "hardware.precision=bf16"
FP32 = "hardware.eval_precision=fp32"


def args(**on):
    """Training arguments with the autocast of `on`."""
    return SimpleNamespace(**{"bf16": False, "fp16": False, **on})


@pytest.fixture(autouse=True)
def _same_precision():
    """Torch's setting is restored."""
    before = torch.backends.fp32_precision
    yield
    torch.backends.fp32_precision = before


@pytest.mark.parametrize(
    ("on", "weights", "matmul", "eval_precision", "expected"),
    [
        ({}, torch.float32, "ieee", None, ("fp32", "fp32")),
        ({"bf16": True}, torch.float32, "none", None, ("bf16", "bf16")),
        ({"bf16": True}, torch.float32, "none", "fp32", ("bf16", "fp32")),
        ({"fp16": True}, torch.float32, "none", None, ("fp16", "fp16")),
        ({}, torch.bfloat16, "ieee", None, ("bf16", "bf16")),
        ({}, torch.float32, "tf32", None, ("tf32", "tf32")),
        ({}, torch.float32, "tf32", "fp32", ("tf32", "fp32")),
    ],
)
def test_precisions_are_those_of_autocast_or_of_the_weights(on, weights, matmul, eval_precision, expected):
    """Autocast decides where there is one, then the weights, then TF32."""
    torch.backends.fp32_precision = matmul
    model = nn.Linear(2, 2).to(weights)
    assert tuple(precisions(args(**on), model, eval_precision).values()) == expected


def test_precisions_refuses_fp32_of_weights_of_fewer_bits():
    """Without autocast they would still be computed in bf16."""
    with pytest.raises(ConfigError) as caught:
        precisions(args(), nn.Linear(2, 2).to(torch.bfloat16), "fp32")
    assert [problem.key for problem in caught.value.problems] == ["hardware.eval_precision"]


def test_full_precision_restores_the_model():
    """Inside, `forward` is without accelerate's autocast; afterwards it is what it was."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    model = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(nn.Linear(7, 7))
    row = torch.rand(1, 7)
    rounded, exact = model(row), nn.functional.linear(row, model.weight, model.bias)
    with full_precision(model):
        assert torch.equal(model(row), exact)
    assert torch.equal(model(row), rounded)
    assert not torch.equal(rounded, exact)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_run_evaluates_in_fp32_what_it_trains_in_bf16(train, toy):
    """With a learning rate of 0 a run that trains in bf16 and evaluates in fp32 has the loss of a run in fp32."""
    still = [*toy, "trainer.args.learning_rate=0", "trainer.args.num_train_epochs=1"]
    fp32, bf16, mixed = (
        train(*still, *more, directory=name).metrics
        for name, more in (("a", ["hardware.precision=fp32"]), ("b", [BF16]), ("c", [BF16, FP32]))
    )
    for name in ("eval_loss", "test_loss"):
        assert mixed[name] == fp32[name] != bf16[name]
    assert mixed["train_loss"] == bf16["train_loss"] != fp32["train_loss"]


def test_run_records_its_precisions(train, toy, store):
    """In the params of its tracker, in metrics.json, and on the model's card."""
    result = train(*toy, BF16, FP32, "trainer.args.max_steps=1")
    client = connect(store)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert (run.data.params["precision"], run.data.params["eval_precision"]) == ("bf16", "fp32")
    recorded = json.loads((result.directory / "metrics.json").read_text())["precisions"]
    assert recorded == {"precision": "bf16", "eval_precision": "fp32"}
    assert "| precision | bf16 in training, fp32 in evaluation |" in (result.directory / "model/README.md").read_text()


@pytest.mark.parametrize(
    ("more", "expected"), [([], "bf16"), ([FP32], "fp32"), (["hardware.precision=fp32"], "fp32")], ids=str
)
def test_evaluate_records_its_precision(train, toy, store, more, expected):
    """A finished run can be evaluated in fp32; the file and MLflow say in which precision it was."""
    result = train(*toy, BF16, "trainer.args.max_steps=1")
    assert main([str(result.directory), *more, "--name", "again"]) == 0
    assert json.loads((result.directory / "evaluations/again.json").read_text())["precision"] == expected
    client = connect(store)
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert found.data.tags["eval_on_again.precision"] == expected


@pytest.mark.parametrize("option", [FP32, "trainer.args.dataloader_drop_last=true"])
def test_run_refuses_options_that_another_trainer_ignores(train, toy, option):
    """Upstream's Trainer would evaluate in bf16, or drop rows of validation and test."""
    with pytest.raises(ConfigError) as caught:
        train(*toy, option, *UPSTREAM)
    assert [problem.key for problem in caught.value.problems] == [option.partition("=")[0]]
