"""A process that inherits the variables of another launcher runs alone; the processes that we start see theirs."""

import json
import logging
import os
import re

import pytest

from hydratune.training.hardware.environment import ignore_other_launchers, is_rank, mark_as_rank
from processes import hydratune

FOREIGN = {
    "torchrun": {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "0",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999", "TORCHELASTIC_RUN_ID": "none"},
    "PyTorchJob": {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999",
                   "PET_NNODES": "4", "PET_NODE_RANK": "0"},
    "srun with PMI": {"PMI_RANK": "0", "PMI_SIZE": "4"},
    "mpirun": {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
    "accelerate launch": {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
                          "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "PARALLELISM_CONFIG_TP_SIZE": "2"},
}  # fmt: skip


@pytest.mark.parametrize("launcher", FOREIGN)
def test_ignore_other_launchers_removes_their_variables(monkeypatch, caplog, launcher):
    """All of them, and the log names each."""
    for name, value in FOREIGN[launcher].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    ignore_other_launchers()
    assert before.items() - os.environ.items() == FOREIGN[launcher].items()
    (record,) = caplog.records
    assert all(name in record.message for name in FOREIGN[launcher])


def test_ignore_other_launchers_logs_what_it_removed_while_logging_was_disabled(monkeypatch, caplog):
    """Once: the checks before a run remove the variables, and the run logs their names."""
    monkeypatch.setenv("RANK", "0")
    logging.disable()
    try:
        ignore_other_launchers()
    finally:
        logging.disable(logging.NOTSET)
    assert "RANK" not in os.environ
    assert not caplog.records
    ignore_other_launchers()
    ignore_other_launchers()
    (record,) = caplog.records
    assert "RANK" in record.message


def test_ignore_other_launchers_is_silent_without_variables(monkeypatch, caplog):
    """What no launcher sets stays, also where Slurm started the shell."""
    for name in [name for names in FOREIGN.values() for name in names]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    before = dict(os.environ)
    ignore_other_launchers()
    assert dict(os.environ) == before
    assert not caplog.records


def test_ignore_other_launchers_keeps_those_of_a_rank(monkeypatch):
    """A process that we started obeys its variables."""
    monkeypatch.setenv("HYDRATUNE_RANK_PID", "")
    monkeypatch.setenv("RANK", "1")
    mark_as_rank()
    ignore_other_launchers()
    assert os.environ["RANK"] == "1"


def test_is_rank_is_not_inherited(monkeypatch):
    """A command that a process of a run starts is not one of the run's processes."""
    monkeypatch.setenv("HYDRATUNE_RANK_PID", str(os.getppid()))
    assert not is_rank()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([], id="run"),
        pytest.param(["-m", "seed=1,2"], id="sweep", marks=pytest.mark.slow),
        pytest.param(["-m", "seed=1,2", "sweep.workers=2"], id="sweep with two workers", marks=pytest.mark.slow),
    ],
)
def test_a_run_ignores_other_launchers(toy, own_directory, command):
    """It trains alone to its end, and does not wait for three others."""
    foreign = {**FOREIGN["torchrun"], **FOREIGN["accelerate launch"], **FOREIGN["mpirun"]}
    directory = ["hydra.run.dir=run", "hydra.sweep.dir=run", "trainer.args.save_total_limit=3"]
    done = hydratune(*toy, "tracking=none", *directory, *command, **foreign)
    assert done.returncode == 0, done.stderr
    assert list(own_directory.glob("run/**/metrics.json"))
    assert foreign.keys() <= {*re.findall(r"\w+", done.stderr)}
    for path in own_directory.glob("run/**/manifest.json"):
        assert json.loads(path.read_text())["conditions"]["hardware.nproc_per_node"] == "1"
