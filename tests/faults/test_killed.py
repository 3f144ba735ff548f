"""A run that is killed, anywhere, ends as one that was not."""

import random
import shutil

import pytest

from hydratune.errors import SAVED
from killing import KILLED, outcome, recorded_in, train

# 32 rows in batches of 4: 8 steps an epoch, 16 in all.
SMALL = [
    "trainer.args.per_device_train_batch_size=4",
    "trainer.args.num_train_epochs=2",
    "trainer.args.logging_steps=3",
    "trainer.args.save_total_limit=2",
]
EVERY_STEP = ["trainer.args.save_strategy=steps", "trainer.args.save_steps=2", "trainer.args.eval_strategy=steps",
              "trainer.args.eval_steps=2"]  # fmt: skip
KINDS = {
    "default": [],
    "random order, cosine": [
        "trainer.args.train_sampling_strategy=random",
        "trainer.args.lr_scheduler_type=cosine",
        "trainer.args.warmup_steps=5",
    ],
    "accumulation": ["trainer.args.gradient_accumulation_steps=3"],
    "plain steps": ["hardware.lean=false"],
    "bf16, data workers": [
        "hardware.precision=bf16",
        "trainer.args.dataloader_num_workers=1",
        "trainer.args.num_train_epochs=1",
    ],
    "masked language model": ["task=masked_lm", "objective=eval_loss"],
    "by epoch": ["trainer.args.save_strategy=epoch", "trainer.args.eval_strategy=epoch"],
    "early stopping": [
        "trainer.callbacks.stop._target_=transformers.EarlyStoppingCallback",
        "trainer.callbacks.stop.early_stopping_patience=3",
        "trainer.args.learning_rate=0",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step(toy, own_directory, empty_store, kind):
    """Killed twice at steps of chance: the same weights, bit for bit, metrics, history, and points in MLflow."""
    overrides = {}
    for name in ("whole", "killed"):
        shutil.copy(empty_store, own_directory / f"{name}.db")
        overrides[name] = [*toy, *SMALL, *EVERY_STEP, *KINDS[kind], *recorded_in(own_directory / name)]
    assert train(overrides["whole"], own_directory / "whole") == 0
    whole = outcome(own_directory / "whole")
    steps = whole["history"][-1]["step"]
    drawn = random.Random(kind)
    for step in sorted(drawn.sample(range(1, steps), 2)):
        assert train(overrides["killed"], own_directory / "killed", step=step) == KILLED
    assert train(overrides["killed"], own_directory / "killed") == 0
    assert outcome(own_directory / "killed") == whole
    assert whole["recorded"]["status"] == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["default", "accumulation", "by epoch"])
def test_asked_to_end(toy, own_directory, kind):
    """Asked to end at any step, first or last of an epoch too, it saves, ends with 75, and goes on the same."""
    overrides = [*toy, *SMALL, "trainer.args.eval_strategy=epoch", "trainer.args.save_strategy=epoch", *KINDS[kind]]
    assert train(overrides, own_directory / "whole") == 0
    whole = outcome(own_directory / "whole")
    steps = whole["history"][-1]["step"]
    for step in sorted({1, 2, steps // 2 - 1, steps // 2, steps - 1}):
        assert train(overrides, own_directory / "asked", ask=step) == SAVED
    assert train(overrides, own_directory / "asked") == 0
    assert outcome(own_directory / "asked") == whole


@pytest.mark.slow
def test_killed_at_any_write(toy, own_directory):
    """Killed before each thing that a checkpoint does to the disk, until none is left: the same end."""
    overrides = [*toy, *SMALL, "trainer.args.max_steps=4", *EVERY_STEP]
    assert train(overrides, own_directory / "whole") == 0
    write, killed = 1, own_directory / "killed"
    while train(overrides, killed, write=write) == KILLED:
        write += 1
    assert write > 20
    assert outcome(killed) == outcome(own_directory / "whole")
