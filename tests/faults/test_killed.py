"""A run that is killed, anywhere, ends as one that was not."""

import json
import random
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from hydratune.utils.errors import SAVED
from killing import KILLED, outcome, recorded_in, train
from processes import hydratune

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
    "plain steps": ["hardware.cpu_optimizations=false"],
    "bf16, data workers": [
        "hardware.precision=bf16",
        "hardware.dataloader_num_workers=2",
        "trainer.args.train_sampling_strategy=random",
        "trainer.args.num_train_epochs=3",
    ],
    "soup of groups": ["trainer.averaging=soup", "trainer.layer_decay=0.8"],
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
    for step in sorted({1, 2, steps // 2 - 1, steps // 2, steps - 1, steps}):
        assert train(overrides, own_directory / "asked", ask=step) == SAVED
    assert train(overrides, own_directory / "asked") == 0
    assert outcome(own_directory / "asked") == whole


BY_STEP = [*EVERY_STEP, "trainer.args.eval_steps=3", "trainer.args.save_steps=3"]
BY_EPOCH = KINDS["by epoch"]
EVALUATIONS = {
    "by step": (BY_STEP, [3, 3, 6]),
    "by epoch": (BY_EPOCH, [8, 16]),
    "best": ([*EVERY_STEP, "trainer.args.save_strategy=best"], [2, 6]),
    "plateau": ([*BY_STEP, "trainer.args.lr_scheduler_type=reduce_lr_on_plateau"], [3, 12]),
    "early stopping": (
        [
            *BY_EPOCH,
            "trainer.callbacks.stop._target_=transformers.EarlyStoppingCallback",
            "trainer.callbacks.stop.early_stopping_patience=1",
            "trainer.args.learning_rate=0",
            "trainer.args.num_train_epochs=4",
        ],
        [16],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVALUATIONS)
def test_asked_to_end_in_an_evaluation(toy, own_directory, kind):
    """The step is saved without the rest of its evaluation, which the resumed run makes; all else is the same."""
    more, steps = EVALUATIONS[kind]
    overrides = [*toy, *SMALL, "trainer.args.per_device_eval_batch_size=4", *more]
    assert train(overrides, own_directory / "whole") == 0
    for step in steps:
        assert train(overrides, own_directory / "asked", evaluate=step) == SAVED
        saved = json.loads((own_directory / f"asked/checkpoints/checkpoint-{step}/trainer_state.json").read_text())
        assert not [entry for entry in saved["log_history"] if "eval_loss" in entry and entry["step"] == step]
    assert train(overrides, own_directory / "asked") == 0
    assert outcome(own_directory / "asked") == outcome(own_directory / "whole")


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


@pytest.mark.slow
def test_killed_between_training_and_calibration(toy, own_directory):
    """The resumed run does not train, and has the calibration, the threshold, and the metrics of an undisturbed one."""
    overrides = [*toy, *SMALL, "task.calibration=temperature", "task.tune_threshold=f1"]
    whole, killed = own_directory / "whole", own_directory / "killed"
    assert train(overrides, whole) == 0
    assert train(overrides, killed, calibrate=1) == KILLED
    assert not (killed / "model").exists()
    assert train(overrides, killed) == 0
    assert outcome(killed) == outcome(whole)
    for name in ("model/calibration.json", "predictions.jsonl"):
        assert (killed / name).read_text() == (whole / name).read_text()


RECORDING = """
import json, os, signal
from hydratune.training.trainer.trainer import Trainer

class Recorder(Trainer):
    def training_step(self, model, inputs, *args):
        step, rank = self.state.global_step, os.environ["RANK"]
        with open(f"{os.environ['FOLDER']}/{rank}.jsonl", "a") as file:
            file.write(json.dumps([step, inputs["input_ids"].tolist()]) + "\\n")
        if step == int(os.environ.get("KILL_AT", "-1")) and rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(model, inputs, *args)
"""


def rows_read(folder):
    """Step -> the rows that all processes read for it."""
    rows = defaultdict(list)
    for path in sorted(folder.glob("*.jsonl")):
        for step, batch in map(json.loads, path.read_text().splitlines()):
            rows[step] += [tuple(row) for row in batch]
    return rows


# Steps of the second of three epochs, the step of the kill, and that of the checkpoint before it.
IN_TWO_PROCESSES = {
    "workers": (
        ["trainer.args.dataloader_num_workers=2", "trainer.args.dataloader_persistent_workers=true"],
        (range(8, 16), 13, 12),
    ),
    "LoRA, accumulation, bf16, random order, cosine": (
        [
            *["adapter=lora", "adapter.config.lora_dropout=0.2", "trainer.args.gradient_accumulation_steps=2"],
            *["hardware.precision=bf16", "trainer.args.train_sampling_strategy=random"],
            *["trainer.args.lr_scheduler_type=cosine", "trainer.args.warmup_steps=3"],
        ],
        (range(4, 8), 7, 6),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", IN_TWO_PROCESSES)
def test_killed_in_two_processes(toy, own_directory, kind):
    """Killed in the second epoch of three, a run ends with the weights of an uninterrupted one, and reads its rows."""
    options, (second_epoch, killed_at, saved_at) = IN_TWO_PROCESSES[kind]
    (own_directory / "recording.py").write_text(RECORDING)
    overrides = [
        *(one for one in toy if not one.startswith("hardware")),
        *SMALL,
        *["hardware=ddp", "hardware.nproc_per_node=2", "hardware.device=cpu", "hardware.threads=1"],
        "trainer.args.num_train_epochs=3",
        *["trainer.args.save_strategy=steps", "trainer.args.save_steps=3", "trainer.args.eval_strategy=steps"],
        *["trainer.args.eval_steps=3", "trainer._target_=recording.Recorder", "tracking=none"],
        *options,
    ]

    def run(name, folder, *more, **environment):
        Path(folder).mkdir()
        allowed = {"PYTHONPATH": str(own_directory), "HYDRATUNE_ALLOW": "recording"}
        return hydratune(*overrides, f"hydra.run.dir={name}", *more, FOLDER=folder, **allowed, **environment)

    done = run("whole", "whole_rows")
    assert done.returncode == 0, done.stderr
    assert run("killed", "killed_rows", KILL_AT=str(killed_at)).returncode == 1
    shutil.copytree("killed", "fewer")
    done = run("killed", "resumed_rows", "resume=auto")
    assert done.returncode == 0, done.stderr
    assert "resume: bit-exact" in (own_directory / "killed" / "hydratune.log").read_text()
    whole, killed = (
        {path.name: path.read_bytes() for path in (own_directory / name / "model").glob("*.safetensors")}
        for name in ("whole", "killed")
    )
    assert whole == killed != {}
    whole, resumed = rows_read(Path("whole_rows")), rows_read(Path("resumed_rows"))
    assert resumed == {step: rows for step, rows in whole.items() if step >= saved_at}
    epoch = [row for step in second_epoch for row in whole[step]]
    assert len(epoch) == len(set(epoch)) == 32
    if kind != "workers":
        return
    environment = {"FOLDER": "whole_rows", "PYTHONPATH": str(own_directory), "HYDRATUNE_ALLOW": "recording"}
    done = hydratune("resume", "fewer", "hardware.nproc_per_node=1", **environment)
    assert done.returncode == 0, done.stderr
    log = (own_directory / "fewer" / "hydratune.log").read_text()
    assert f"hardware.nproc_per_node changed from 2 to 1 at step {saved_at}" in log
