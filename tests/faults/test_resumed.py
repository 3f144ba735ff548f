"""A run over several epochs that fails and is resumed, twice, ends with the bits of a run that did not fail."""

import json

import pytest
import safetensors.torch
import torch
from transformers import TrainerCallback

from hydratune.training import setup

# 32 rows in batches of 4: 8 steps an epoch, 24 in all, and a checkpoint every 5 steps, also within epochs.
EPOCHS = [
    "trainer.args.per_device_train_batch_size=4",
    "trainer.args.num_train_epochs=3",
    "trainer.args.logging_steps=3",
    *["trainer.args.save_strategy=steps", "trainer.args.save_steps=5"],
    *["trainer.args.eval_strategy=steps", "trainer.args.eval_steps=5"],
]
BY_EPOCH = ["trainer.args.save_strategy=epoch", "trainer.args.eval_strategy=epoch"]
KINDS = {
    "grouped by length": [],
    "by epoch": BY_EPOCH,
    "random order, bf16": ["trainer.args.train_sampling_strategy=random", "hardware.precision=bf16"],
    "balanced batches": ["trainer.args.train_sampling_strategy=batch_rebalance"],
    "accumulation": ["trainer.args.gradient_accumulation_steps=3", "trainer.args.train_sampling_strategy=random"],
    "persistent workers": ["hardware.dataloader_num_workers=2"],
    "persistent workers, by epoch": ["hardware.dataloader_num_workers=2", *BY_EPOCH],
    "workers": ["trainer.args.dataloader_num_workers=2", "trainer.args.train_sampling_strategy=random"],
    "workers, accumulation": ["hardware.dataloader_num_workers=2", "trainer.args.gradient_accumulation_steps=2"],
    "masked language model, workers": ["task=masked_lm", "objective=eval_loss", "hardware.dataloader_num_workers=2"],
    "weighted focal loss": [
        *["task.loss=focal", "task.class_weights=balanced", "trainer.args.label_smoothing_factor=0.1"],
        "trainer.args.gradient_accumulation_steps=2",
    ],
    "LoRA": ["adapter=lora", "adapter.config.lora_dropout=0.2", "hardware.dataloader_num_workers=2"],
    "NEFTune, Adafactor": ["trainer.args.neftune_noise_alpha=5", "trainer.args.optim=adafactor"],
    "cosine": ["trainer.args.lr_scheduler_type=cosine", "trainer.args.warmup_steps=5"],
    "parameter groups": [
        *[
            "trainer.layer_decay=0.5",
            "trainer.head_lr_multiplier=2",
            "trainer.groups={embeddings: {weight_decay: 0.3}}",
        ],
        "trainer.args.lr_scheduler_type=cosine",
    ],
    "unfreezing, swa": ["trainer.unfreeze={embeddings: 1, encoder: 2}", "trainer.averaging=swa"],
    "ema": ["trainer.averaging=ema", "trainer.ema_decay=0.9"],
    "swa, LoRA": ["trainer.averaging=swa", "trainer.swa_start=0.3", "adapter=lora"],
    "soup": ["trainer.averaging=soup", "trainer.args.save_total_limit=3"],
    "soup, LoRA": ["trainer.averaging=soup", "trainer.args.save_total_limit=null", "adapter=lora"],
    "plateau": [
        "trainer.args.lr_scheduler_type=reduce_lr_on_plateau",
        "+trainer.args.lr_scheduler_kwargs.patience=0",
        "hardware.dataloader_num_workers=2",
    ],
    "greedy": ["trainer.args.lr_scheduler_type=greedy"],
    "evaluation at the start, early stopping": [
        "trainer.args.eval_on_start=true",
        "trainer.args.learning_rate=0",
        "trainer.callbacks.stop._target_=transformers.EarlyStoppingCallback",
        "trainer.callbacks.stop.early_stopping_patience=3",
    ],
}


def failing_at(failing_step):
    """A callback that ends the run within a step; it remembers nothing, or the run would not be exact."""

    class Fails(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **_):  # noqa: ARG002
            if state.global_step == failing_step:
                raise InterruptedError

    return Fails()


@pytest.fixture
def trained(train, monkeypatch):
    """Trains in a directory, or resumes there, and fails at a step, if so; returns how the run ended."""
    make = setup.make_trainer

    def train_to_the_end(overrides, directory, step=None):
        trainers = []

        def watched(*args, **kwargs):
            trainers.append(make(*args, **kwargs))
            if step is not None:
                trainers[0].add_callback(failing_at(step))
            return trainers[0]

        monkeypatch.setattr("hydratune.training.setup.make_trainer", watched)
        torch.rand(len(directory))  # a new process has another state
        if step is not None:
            with pytest.raises(InterruptedError):
                train(*overrides, directory=directory)
            return None
        result = train(*overrides, directory=directory)
        weights = [safetensors.torch.load_file(path) for path in sorted(result.directory.glob("model/*.safetensors"))]
        assert weights
        return {
            "weights": [{name: weight.tolist() for name, weight in file.items()} for file in weights],
            "metrics": _without_times(json.loads((result.directory / "metrics.json").read_text())),
            "history": [_without_times(entry) for entry in trainers[0].state.log_history],
        }

    return train_to_the_end


def _without_times(entry):
    return {name: value for name, value in entry.items() if not name.endswith(("runtime", "_per_second"))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_in_later_epochs(toy, trained, caplog, kind):
    """The same weights, metrics, and history; and the run says that it is exact."""
    overrides = [*toy, *EPOCHS, *KINDS[kind]]
    whole = trained(overrides, "whole")
    last = whole["history"][-1]["step"]
    caplog.clear()  # another test may have left a level at which the first run is logged, too
    caplog.set_level("INFO")
    for step in (last // 2 + 1, last - 1):
        trained(overrides, "failed", step)
    resumed = trained(overrides, "failed")
    exact = [record.message for record in caplog.records if record.message.startswith("resume: ")]
    assert exact == ["resume: bit-exact"] * 3
    assert resumed == whole


def test_resumed_with_another_batch_split(toy, trained, caplog):
    """Other micro-batches add in another order, so that the run is no longer exact, and says so at every resume."""
    caplog.set_level("INFO")
    trained([*toy, *EPOCHS], "run", 9)
    halves = ["trainer.args.per_device_train_batch_size=2", "trainer.args.gradient_accumulation_steps=2"]
    trained([*toy, *EPOCHS, *halves], "run", 19)
    trained([*toy, *EPOCHS, *halves], "run")
    exact = [record.message for record in caplog.records if record.message.startswith("resume: ")]
    changes = (
        "trainer.args.gradient_accumulation_steps changed from 1 to 2 at step 5; "
        "trainer.args.per_device_train_batch_size changed from 4 to 2 at step 5"
    )
    assert exact == ["resume: bit-exact", *[f"resume: not bit-exact, because {changes}"] * 2]
