"""Averaged parameters are those of a plain loop, and the ones that are evaluated, saved, and returned."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    default_data_collator,
    set_seed,
)

from conftest import looked_at_every
from hydratune.config import composition
from hydratune.training.job import Job, TrialContext
from hydratune.training.run import run
from hydratune.training.trainer.averages import Average
from hydratune.training.trainer.averaging import AVERAGE
from hydratune.training.trainer.trainer import Trainer
from two_ranks import measured_by_two_ranks

ROWS = Dataset.from_dict({"input_ids": [[3, 4, i % 5] for i in range(12)], "labels": [i % 2 for i in range(12)]})


class Records(TrainerCallback):
    """Copies of the parameters after each step, before later callbacks see them."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, model=None, **_):  # noqa: ARG002
        self.steps.append({name: weight.detach().clone() for name, weight in model.named_parameters()})


def trained(folder, **settings):
    """A Trainer after eight steps, with the parameters after each of them."""
    set_seed(1)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=2, **sizes, **still))
    every = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    options = {"max_steps": 8, "learning_rate": 0.05, "per_device_train_batch_size": 4, "use_cpu": True, **every}
    args = Seq2SeqTrainingArguments(str(folder), report_to="none", disable_tqdm=True, **options)
    records = Records()
    data = {"train_dataset": ROWS, "eval_dataset": ROWS, "data_collator": default_data_collator}
    trainer = Trainer(model=model, args=args, callbacks=[records], **data, **settings)
    trainer.train()
    return trainer, records.steps


def assert_parameters(trainer, expected):
    """Compare the parameters of a Trainer's model."""
    for name, weight in trainer.model.named_parameters():
        assert torch.allclose(weight, expected[name], atol=1e-6, rtol=0), name


def exponential(steps, decay):
    """The moving average of a plain loop, with the lower decay of the first steps."""
    average = steps[0]
    for n, step in enumerate(steps[1:], start=1):
        share = min(decay, (1 + n) / (10 + n))
        average = {name: share * average[name] + (1 - share) * step[name] for name in average}
    return average


def mean(steps):
    """The mean of parameters."""
    return {name: torch.stack([step[name] for step in steps]).mean(0) for name in steps[0]}


def test_ema_is_that_of_a_plain_loop(tmp_path):
    """Each step counts once, and the model ends with the average."""
    trainer, steps = trained(tmp_path, averaging="ema", ema_decay=0.4)
    assert_parameters(trainer, exponential(steps, 0.4))


def test_swa_is_the_mean_of_the_last_steps(tmp_path):
    """Half of eight steps are averaged."""
    trainer, steps = trained(tmp_path, averaging="swa", swa_start=0.5)
    assert_parameters(trainer, mean(steps[4:]))


def test_averages_do_not_change_the_training(tmp_path):
    """The optimizer continues with its own parameters after each evaluation."""
    _, plain = trained(tmp_path / "plain")
    _, averaged = trained(tmp_path / "averaged", averaging="ema")
    for before, after in zip(plain, averaged, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_evaluations_use_the_average(tmp_path):
    """The loss of the last step is that of the model at the end."""
    trainer, _ = trained(tmp_path, averaging="swa", swa_start=0.25)
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[-1], abs=1e-6)
    plain, _ = trained(tmp_path / "plain")
    assert losses[0] == pytest.approx(plain.state.log_history[0]["eval_loss"], abs=1e-6)  # `swa` had not begun
    assert losses[-1] != pytest.approx(plain.evaluate()["eval_loss"], abs=1e-4)


def test_average_in_float32_of_bfloat16(tmp_path):
    """A mean of bfloat16 values is not rounded to bfloat16, and the model gets its own values back."""
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    average = Average()
    for value in (1.0, 1.0078125, 1.0):
        torch.nn.init.constant_(model.weight, value)
        average.update(model)
    average.save(path := tmp_path / AVERAGE)
    (weight,) = safetensors.torch.load_file(path).values()
    assert weight.item() == pytest.approx((1.0 + 1.0078125 + 1.0) / 3, abs=1e-6)
    with average.applied(model):
        pass
    assert model.weight.item() == 1.0


def test_average_includes_norm_statistics():
    """The running mean of batch norm belongs to the averaged weights, and its counter does not."""
    model = torch.nn.BatchNorm1d(1)
    average = Average()
    for value in (1.0, 3.0):
        model.running_mean.fill_(value)
        average.update(model)
    average.copy_to(model)
    assert model.running_mean.item() == 2.0


# --- soups -----------------------------------------------------------------------------------------------

SOUP = ["trainer.averaging=soup", "trainer.args.save_total_limit=null", "trainer.args.per_device_train_batch_size=4"]


def checkpoints(folder):
    """Step -> parameters of a run's checkpoints."""
    paths = sorted(folder.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    return {int(path.name.partition("-")[2]): safetensors.torch.load_file(path / "model.safetensors") for path in paths}


def test_soup_is_the_mean_of_the_checkpoints_that_help(train, toy):
    """The saved model is the mean of the recorded steps, it begins with the best, and it is not worse on validation."""
    folder = train(*toy, *SOUP, *looked_at_every(4), "objective=eval_loss").directory
    metrics = json.loads((folder / "metrics.json").read_text())
    steps, history = metrics["soup"], state(folder)
    losses = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    assert steps[0] == min(losses, key=losses.get)
    assert len(steps) > 1
    assert metrics["eval_loss"] <= min(losses.values())
    saved = safetensors.torch.load_file(folder / "model" / "model.safetensors")
    expected = mean([checkpoints(folder)[step] for step in steps])
    assert all(torch.allclose(saved[name], expected[name], atol=1e-6) for name in expected)


def test_soup_of_a_model_that_gets_worse_is_the_best_checkpoint(train, toy):
    """A mean with worse checkpoints is not taken."""
    diverging = ["trainer.args.learning_rate=3", "trainer.args.warmup_steps=0", "objective=eval_loss"]
    folder = train(*toy, *SOUP, *looked_at_every(4), *diverging).directory
    metrics, history = json.loads((folder / "metrics.json").read_text()), state(folder)
    losses = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    assert metrics["eval_loss"] <= min(losses.values())
    assert metrics["soup"][0] == min(losses, key=losses.get)


def test_soup_reads_no_test_rows(train, toy):
    """Only the best checkpoint's choice on validation decides, so the test rows are predicted once."""
    result = train(*toy, *SOUP, *looked_at_every(4))
    assert "test_accuracy" in result.metrics
    assert not [entry for entry in state(result.directory) if any(name.startswith("test_") for name in entry)]


def state(folder):
    """The history in the last checkpoint of a run."""
    last = max(folder.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


@pytest.mark.slow
@pytest.mark.parametrize("averaging", ["ema", "soup"])
def test_trial_has_the_score_of_a_run(train, toy, compose, averaging):
    """A trial of a sweep leaves no weights, but its score is that of the averaged parameters."""
    overrides = [*toy, *SOUP[1:], *looked_at_every(4), f"trainer.averaging={averaging}", "objective=eval_loss"]
    expected = train(*overrides).objective
    cfg = composition.without_hydra(compose(*overrides, "tracking=none"))
    Path("trial").mkdir()
    assert run(cfg, Job(Path("trial").absolute(), overrides, trial=TrialContext("trial"))).objective == expected
    assert not Path("trial/model").exists()


# --- checkpoints and processes ---------------------------------------------------------------------------


def test_checkpoints_have_both_parameters(train, toy):
    """The training continues with `model.safetensors`; the best checkpoint's average is the saved model."""
    result = train(*toy, "trainer.averaging=ema", *looked_at_every(4), *SOUP[2:], "objective=eval_loss")
    best = result.directory / "checkpoints" / f"checkpoint-{result.metrics['step']}"
    average = safetensors.torch.load_file(best / AVERAGE)
    saved = safetensors.torch.load_file(result.directory / "model" / "model.safetensors")
    own = safetensors.torch.load_file(best / "model.safetensors")
    assert all(torch.equal(saved[name], average[name]) for name in saved)
    assert any(not torch.equal(own[name], average[name]) for name in own)


def averaged(folder):
    """The averaged parameters of a process, as numbers."""
    trainer, _ = trained(folder / "run", averaging="ema", ema_decay=0.4)
    return [weight.flatten().tolist() for weight in trainer.model.parameters()]


@pytest.mark.slow
def test_two_processes_have_the_same_average(tmp_path):
    """Each of them averages by itself, and evaluates the same model."""
    first, second = measured_by_two_ranks(averaged, tmp_path)
    assert first == second
