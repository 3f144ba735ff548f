"""A loss or a gradient that is no number never reaches the weights."""

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, set_seed
from transformers import Seq2SeqTrainingArguments as Arguments
from transformers import Trainer as Upstream

from hydratune.training.trainer.trainer import Trainer
from hydratune.utils.errors import FAILED, NotFiniteError
from processes import hydratune

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


class Watch(TrainerCallback):
    """Remembers the weights at the end of each step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **_):  # noqa: ARG002
        self.weights.append(copy.deepcopy(model.state_dict()))


class Break:
    """A collator that remembers its rows, and a network that breaks when a row comes by."""

    def __init__(self, row):
        self.row, self.seen, self.now = row, [], False

    def __call__(self, rows):
        numbers = [row["input_ids"][0] for row in rows]
        self.seen.append(numbers)
        return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}


def made(breaking, where, **arguments):
    """A trainer on 16 rows, whose first token is their number; row 13 breaks it."""
    set_seed(0)
    network = BertForSequenceClassification(BertConfig(vocab_size=50, **SIZES))
    rows = Dataset.from_dict({"input_ids": [[n, 20, 21] for n in range(16)], "labels": [n % 2 for n in range(16)]})
    broken = []

    def look(module, args, kwargs):  # noqa: ARG001
        broken[:] = [(kwargs["input_ids"][:, 0] == breaking.row).any()]

    network.register_forward_pre_hook(look, with_kwargs=True)
    if where == "loss":

        def spoil(module, args, output):  # noqa: ARG001
            output.loss = output.loss * (float("nan") if broken[0] else 1)
            return output

        network.register_forward_hook(spoil)
    else:
        network.classifier.weight.register_hook(lambda grad: grad * (float("inf") if broken[0] else 1))
    given = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "learning_rate": 1e-2}
    given |= {"save_strategy": "no", **arguments}
    kept = {name: given.pop(name) for name in ("on_nan", "max_skipped") if name in given}
    args = Arguments("out", use_cpu=True, report_to="none", disable_tqdm=True, **given)
    watch = Watch()
    return Trainer(network, args, breaking, rows, rows, callbacks=[watch], **kept), watch


def same(one, other):
    """Whether two states are equal, bit by bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_it_stops(where, parts, strategy):
    """Before the update, with the step, the learning rate and the rows of the step."""
    breaking = Break(row=13)
    trainer, watch = made(breaking, where, gradient_accumulation_steps=parts, train_sampling_strategy=strategy)
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(NotFiniteError) as told:
        trainer.train()
    assert same(trainer.model.state_dict(), watch.weights[-1] if watch.weights else before)
    step = trainer.state.global_step
    rows = [row for part in breaking.seen[step * parts : (step + 1) * parts] for row in part]
    assert 13 in rows
    assert f"step {step + 1}, learning rate " in str(told.value)
    assert f"rows {rows}; the model was not updated" in str(told.value)


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_it_skips(where, caplog):
    """As an option: the weights of that step stay those before it, and the others train."""
    breaking = Break(row=13)
    trainer, watch = made(breaking, where, on_nan="skip")
    trainer.train()
    (step,) = [number for number, rows in enumerate(breaking.seen) if 13 in rows]
    changed = [not same(a, b) for a, b in zip(watch.weights, watch.weights[1:], strict=False)]
    assert len(watch.weights) == 8
    assert [number for number, moved in enumerate(changed, 1) if not moved] == [step] if step else True
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())
    assert "skipped this step (1 of at most 10)" in caplog.text


@pytest.mark.usefixtures("own_directory")
def test_a_limit():
    """More steps than the limit are not skipped."""
    trainer, _ = made(Break(row=13), "loss", on_nan="skip", max_skipped=2, num_train_epochs=5)
    with pytest.raises(NotFiniteError) as told:
        trainer.train()
    assert "on_nan" not in str(told.value)
    assert 2 <= trainer.state.epoch < 3


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_validation_loss_that_is_nan(on_nan):
    """Weights that are finite but far too large end the run before they are saved."""
    every = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer, _ = made(Break(row=99), "loss", on_nan=on_nan, metric_for_best_model="loss", max_steps=2, **every)
    trainer.evaluate = lambda *_, **__: {"eval_loss": float("nan")}
    with pytest.raises(NotFiniteError) if on_nan == "stop" else nullcontext():
        trainer.train()
    assert len([*Path("out").glob("checkpoint-*")]) == (0 if on_nan == "stop" else 2)


WILD = ["trainer.args.learning_rate=1e38", "trainer.args.max_grad_norm=0", "trainer.args.warmup_steps=0"]
TWO = ["hardware=ddp", "hardware.nproc_per_node=2", "hardware.device=cpu", "hardware.threads=1"]
CONSTANT = "trainer.args.lr_scheduler_type=constant"


def test_run_with_a_wild_learning_rate(train, toy):
    """The error says which settings to change."""
    with pytest.raises(NotFiniteError) as told:
        train(*toy, *WILD, "trainer.args.num_train_epochs=9", CONSTANT)
    assert "trainer.args.learning_rate" in told.value.problem.hint


@pytest.mark.slow
@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize("more", [[], TWO], ids=["one process", "ddp"])
def test_command_with_a_wild_learning_rate(toy, more):
    """The command ends without a traceback."""
    done = hydratune(*toy, *WILD, *more, "tracking=none", CONSTANT)
    assert done.returncode == FAILED
    assert "trainer.args.learning_rate" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_objective_that_is_always_nan(train, toy, monkeypatch):
    """The result is that of the last step."""
    monkeypatch.setattr(Upstream, "_determine_best_metric", lambda *_: False)
    result = train(*toy, "trainer.args.max_steps=2")
    assert result.metrics["step"] == 2
