"""A signal to all processes of a run, as Slurm sends it: the run saves, exits with 75, and resumes exactly."""

import contextlib
import functools
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from hydratune.tracking.client import connect
from hydratune.utils.errors import SAVED
from killing import signal_before
from processes import LONG, start

pytestmark = pytest.mark.slow

# `SIGNALS` is like "5:SIGTERM,SIGTERM": before which step, and what the last rank sends to all processes of the run.
SIGNALING = """
import os, signal, time
import psutil
from hydratune.training.trainer.trainer import Trainer

class Signaler(Trainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.send("init")

    def training_step(self, *args):
        self.send(str(self.state.global_step))
        return super().training_step(*args)

    def evaluation_loop(self, *args, **kwargs):
        self.send("eval")
        return super().evaluation_loop(*args, **kwargs)

    def send(self, where):
        at, _, names = os.environ.get("SIGNALS", "").partition(":")
        if at == where and os.environ.get("RANK", "0") == os.environ.get("LAST_RANK", "0"):
            os.environ["SIGNALS"] = ""
            command = psutil.Process(os.getppid() if "RANK" in os.environ else os.getpid())
            everyone = [command, *command.children(recursive=True)]
            for name in names.split(","):
                for process in everyone:
                    process.send_signal(getattr(signal, name))
                time.sleep(0.01)
"""
TWO = ["hardware=ddp", "hardware.nproc_per_node=2", "hardware.device=cpu", "hardware.threads=1"]
MORE = [
    *["trainer._target_=signaling.Signaler", "trainer.args.num_train_epochs=3", "tracking=none"],
    *["trainer.args.per_device_train_batch_size=4", "trainer.args.save_total_limit=2"],
    *["trainer.args.dataloader_num_workers=2", "trainer.args.dataloader_persistent_workers=true"],
]


@pytest.fixture
def run(toy, own_directory):
    """Trains in a session of its own, in one process or in two; returns the exit code and the messages."""
    (own_directory / "signaling.py").write_text(SIGNALING)
    environment = {"PYTHONPATH": str(own_directory), "HYDRATUNE_ALLOW": "signaling"}

    def train(name, signals="", processes=1):
        hardware = [one for one in toy if not one.startswith("hardware")] + TWO if processes > 1 else toy
        more = {"SIGNALS": signals, "LAST_RANK": str(processes - 1), **environment}
        process = start(*hardware, *MORE, f"hydra.run.dir={name}", "resume=auto", session=True, **more)
        _, said = process.communicate()
        left = [one for one in psutil.process_iter() if _belongs_to(one, process.pid, str(own_directory))]
        assert psutil.wait_procs(left, timeout=LONG)[1] == []
        return process.returncode, said

    return train


def _belongs_to(one, session, directory):
    with contextlib.suppress(OSError, psutil.Error):
        return os.getsid(one.pid) == session or (
            "hydratune.cli._rank" in one.cmdline() and directory in str(one.cmdline())
        )
    return False


@pytest.mark.parametrize("processes", [1, 2])
def test_signals_to_all_processes_of_a_run(run, processes):
    """SIGUSR1 at a step, SIGTERM twice within 10 ms in an evaluation: exit code 75 each time, and the same weights."""
    code, said = run("whole", "", processes)
    assert code == 0, said
    for signals in ("5:SIGUSR1", "eval:SIGTERM,SIGTERM"):
        code, said = run("signaled", signals, processes)
        assert (code, "Traceback" in said) == (SAVED, False), said
    code, said = run("signaled", "", processes)
    assert code == 0, said
    weights = [Path(name, "model", "model.safetensors").read_bytes() for name in ("whole", "signaled")]
    assert weights[0] == weights[1]


def test_signal_before_the_first_step(run):
    """There is nothing to save, and the same command is to be run again: exit code 75."""
    code, said = run("run", "init:SIGTERM,SIGTERM")
    assert (code, "Traceback" in said) == (SAVED, False), said


PHASES = {
    "checks": "hydratune.cli.train:preflight",
    "download": "hydratune.utils.hub:force_offline_if_unreachable",
    "tokenization": "datasets.arrow_dataset:Dataset.map",
    "test evaluation": "hydratune.training.trainer.trainer:Trainer.predict",
    "saving": "hydratune.training.trainer.fsdp:gather_weights",
    "model card": "hydratune.training.model_card:write",
    "predictions": "hydratune.training.artifacts:predictions",
    "final upload": "hydratune.tracking.uploader:Uploader.close",
}


@pytest.mark.parametrize("phase", PHASES)
def test_signal_in_phase(toy, store, phase):
    """Outside training the command ends immediately, with 75 and no traceback; the same command finishes the run."""
    command = [*toy, "hydra.run.dir=run", "resume=auto"]
    process = start(*command, enter=functools.partial(signal_before, PHASES[phase], signal.SIGTERM))
    _, said = process.communicate()
    assert (process.returncode, "Traceback" in said) == (SAVED, False), said
    process = start(*command)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert Path("run/metrics.json").is_file()
    client = connect(store)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert run.info.status == "FINISHED"


def test_signal_while_ranks_are_imported(toy, own_directory):  # noqa: ARG001 (the directory to work in)
    """A signal that ranks cannot handle yet is no failure of the run."""
    command = [one for one in toy if not one.startswith("hardware")] + TWO
    process = start(*command, "tracking=none", "hydra.run.dir=run", session=True, cold=True)
    while not psutil.Process(process.pid).children():
        assert process.poll() is None, process.said()
        time.sleep(0.01)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children()]:
        one.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert (process.returncode, "Traceback" in said) == (SAVED, False), said
