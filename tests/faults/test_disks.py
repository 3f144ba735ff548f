"""A run whose directory, disk, or memory fails while it trains tells how to continue, and continues."""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hydratune.cli import main
from hydratune.tracking.client import connect
from hydratune.utils.errors import FAILED, USER_ERROR, ConfigError, Problem
from processes import HYDRATUNE, hydratune

# `FAULT` is a command of the shell, run in the process of the training before step 5.
FAILING = """
import os, resource, subprocess
from hydratune.training.trainer.trainer import Trainer

class Failing(Trainer):
    def training_step(self, *args):
        fault = os.environ.pop("FAULT", "") if self.state.global_step == 5 else ""
        if fault == "memory":
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
            bytearray(2**28)
        elif fault:
            subprocess.run(fault, shell=True, check=True)
        return super().training_step(*args)
"""
EVERY_STEP = [f"trainer.args.{kind}={value}" for kind, value in {
    "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2,
    "per_device_train_batch_size": 4, "num_train_epochs": 1, "save_total_limit": 2}.items()]  # fmt: skip


@pytest.fixture
def disk(own_directory):
    """A small disk of its own, below the working directory."""
    path = own_directory / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256m,nr_inodes=400", "tmpfs", path]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("to mount a disk takes root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)  # noqa: S607


@pytest.fixture
def run(toy, own_directory, store):
    """Trains on the disk; returns the exit code, the messages, and the state in MLflow."""
    (own_directory / "failing.py").write_text(FAILING)
    environment = {"PYTHONPATH": str(own_directory), "HYDRATUNE_ALLOW": "failing"}

    def train(*overrides, fault=""):
        command = overrides or [*toy, *EVERY_STEP, "trainer._target_=failing.Failing", "hydra.run.dir=disk/run"]
        done = hydratune(*command, FAULT=fault, **environment)
        client = connect(store)
        runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
        return done.returncode, done.stderr, [run.info.status for run in runs]

    return train


FILL = "i=0; while touch disk/filler$i; do i=$((i+1)); done 2>/dev/null; true"
READ_ONLY = "mount --bind disk/run disk/run && mount -o remount,ro,bind disk/run"
FAULTS = {  # name -> the fault, and what the user does before the next command
    "read-only": (READ_ONLY, "umount disk/run"),
    "no inodes": (FILL, "rm -f disk/filler*"),
    "full": ("head -c 1G /dev/zero > disk/filler 2>/dev/null; true", "rm disk/filler"),
    "memory": ("memory", "true"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_run_resumes_after_fault(run, disk, name):  # noqa: ARG001 (the disk of the run)
    """MLflow says FAILED, with the error; the command that is printed ends the run as if there had been no fault."""
    fault, repair = FAULTS[name]
    code, said, states = run(fault=fault)
    assert (code, states) == (FAILED, ["FAILED"]), said
    subprocess.run(["sh", "-c", repair], check=True)  # noqa: S607
    (command,) = re.findall("resume with: (.*)", said)
    code, said, states = run(*shlex.split(command)[1:])
    assert (code, states) == (0, ["FINISHED"]), said
    assert "resume: bit-exact" in said
    shutil.copytree("disk/run/model", "resumed")
    shutil.rmtree("disk/run")
    assert run()[0] == 0
    weights = [Path(folder, "model.safetensors").read_bytes() for folder in ("disk/run/model", "resumed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_run_ends_if_its_directory_is_removed(run, disk):
    """It ends at the next checkpoint, MLflow says FAILED, and the same command starts again."""
    code, said, states = run(fault="rm -r disk/run")
    assert (code, states) == (FAILED, ["FAILED"]), said
    assert not (disk / "run").exists()
    assert "resume with" not in said
    code, said, states = run()
    assert (code, sorted(states)) == (0, ["FAILED", "FINISHED"]), said


def test_error_after_the_store_was_created_is_reported(monkeypatch, capsys, toy):
    """The first run of a project removes its own directory, and leaves that of the store."""

    def fail(*_, **__):
        Path("outputs/mlflow.db").touch()
        raise ConfigError(Problem("x", "an error of the store"))

    monkeypatch.setattr("sys.argv", ["hydratune", *toy])
    monkeypatch.setattr(main, "guard_output", lambda: None)
    monkeypatch.setattr("hydratune.cli.train.run", fail)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert (end.value.code, capsys.readouterr().err.splitlines()[-1]) == (USER_ERROR, "error: an error of the store")
    assert [path.name for path in Path("outputs").iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE, errno.EACCES, errno.EFBIG, None, "library"]
)
@pytest.mark.parametrize("verb", ["sync", "predict"])
def test_command_reports_fault_of_system(monkeypatch, capsys, verb, number):
    """One error with a hint, without a traceback, and exit code 1; other errors of files are not hidden."""

    def fail(_):
        if number == "library":  # `ulimit -v`
            raise ImportError("libtorch_cpu.so: failed to map segment from shared object")
        raise OSError(number, os.strerror(number)) if number else MemoryError

    monkeypatch.setitem(main.VERBS, verb, "failing_command:main")
    monkeypatch.setitem(sys.modules, "failing_command", SimpleNamespace(main=fail))
    monkeypatch.setattr("sys.argv", ["hydratune", verb, "x"])
    monkeypatch.setattr(main, "guard_output", lambda: None)
    with pytest.raises(SystemExit) as end:
        main.main()
    lines = capsys.readouterr().err.splitlines()
    assert (end.value.code, [line.partition(":")[0].strip() for line in lines]) == (FAILED, ["error", "hint"])


@pytest.mark.parametrize("name", ["x" * 300, "outputs/" + "x" * 300, "\udcff"], ids=["long", "long part", "bytes"])
@pytest.mark.parametrize("command", [["init"], ["show"], ["predict", "latest"], ["check", "dataset.files.train="]])
def test_impossible_name_is_an_error_of_the_user(monkeypatch, capsys, command, name):
    """A name that is too long, or not UTF-8, is one error without a traceback; nothing is created."""
    arguments = [*command[:-1], command[-1] + name] if command[-1].endswith("=") else [*command, name]
    monkeypatch.setattr("sys.argv", ["hydratune", *arguments])
    monkeypatch.setattr(main, "guard_output", lambda: None)
    with pytest.raises(SystemExit) as end:
        main.main()
    errors = capsys.readouterr().err
    assert (end.value.code, errors.startswith("error: ")) == (USER_ERROR, True), errors
    assert not [*Path.cwd().iterdir()]


def test_working_directory_that_is_not_utf8_is_an_error_of_the_user(own_directory):
    """Before anything is written there."""
    folder = own_directory / "a\udcff"
    folder.mkdir()
    ended = subprocess.run([HYDRATUNE, "--dry-run"], capture_output=True, text=True, check=False, cwd=folder)
    assert ended.returncode == USER_ERROR
    assert "Traceback" not in ended.stderr
    assert not [*folder.iterdir()]


def test_removed_working_directory_is_an_error_of_the_user():
    """Without a traceback."""
    ended = subprocess.run(
        ["sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && exec {HYDRATUNE} --dry-run"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == USER_ERROR
    assert "Traceback" not in ended.stderr


def test_removed_docstrings_are_an_error_of_the_user():
    """Transformers cannot be imported without them."""
    environment = {**os.environ, "PYTHONOPTIMIZE": "2"}
    ended = subprocess.run([HYDRATUNE, "--dry-run"], capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == USER_ERROR
    assert ended.stderr.startswith("error: PYTHONOPTIMIZE")


@pytest.mark.parametrize("verb", ["train", "resume", "sweep", "predict", "evaluate"])
def test_small_address_space_is_an_error_of_the_user(monkeypatch, verb):
    """With less, torch would abort the process while it is imported."""
    monkeypatch.setattr(main.resource, "getrlimit", lambda _: (2_000_000 * 1024, -1))
    with pytest.raises(ConfigError) as caught:
        main.dispatch([verb, "x"])
    assert [problem.key for problem in caught.value.problems] == ["ulimit -v"]


def test_command_in_a_small_address_space_imports_nothing_large():
    """The real limit, from the start of the process."""
    command = ["bash", "-c", f"ulimit -v 1000000; exec {HYDRATUNE} --dry-run"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == USER_ERROR
    assert ended.stderr.startswith("error: ulimit -v")
    assert "Traceback" not in ended.stderr
