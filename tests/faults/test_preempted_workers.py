"""A worker that its scheduler preempts: neither success nor failure of its trial, which continues where it was saved."""

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from conftest import study
from processes import start

pytestmark = pytest.mark.slow

SWEEP = [
    *[
        "-m",
        "sweep.max_retries=0",
        "hydra.sweep.dir=s",
        "objective=eval_loss",
        "sweep.n_trials=1",
        "trainer.args.weight_decay=0,0.1",
    ],
    *["trainer.args.num_train_epochs=30", "trainer.args.per_device_train_batch_size=8", "tracking=none"],
]
TWO = ["hardware=ddp", "hardware.nproc_per_node=2", "hardware.device=cpu", "hardware.threads=1"]


def preempt(process, number):
    """Sends a signal to the worker of a sweep and all its processes once its first trial has a checkpoint."""
    while not list(Path("s").glob("0/checkpoints/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.said()
        time.sleep(0.05)
    (worker,) = (
        one for one in psutil.Process(process.pid).children(recursive=True) if "submitit.core._submit" in one.cmdline()
    )
    for one in [worker, *worker.children(recursive=True)]:
        one.send_signal(number)


@pytest.mark.parametrize(
    ("number", "hardware"),
    [(signal.SIGTERM, []), (signal.SIGUSR2, []), (signal.SIGTERM, TWO)],
    ids=["SIGTERM", "SIGUSR2", "SIGTERM, ddp"],
)
def test_preempted_worker(toy, own_directory, number, hardware):  # noqa: ARG001 (the directory to work in)
    """The trial is saved and continues in another worker, or in the one that submitit starts again; none has failed."""
    alone = [one for one in toy if not (hardware and one.startswith("hardware"))]
    process = start(*alone, *hardware, *SWEEP, "hydra/launcher=submitit_local")
    preempt(process, number)
    said = "".join(process.communicate())
    assert process.returncode == 0, said
    trials = study().trials
    assert [(trial.state.name, trial.user_attrs.get("failures", 0)) for trial in trials] == [("COMPLETE", 0)]
    log = "".join(path.read_text() for path in Path("s/0").rglob("*.log"))
    assert "saved at step" in log
    assert json.loads(Path("s/0/metrics.json").read_text())["eval_loss"] == trials[0].value
