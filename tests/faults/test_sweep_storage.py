"""Sweeps whose databases, servers, disks, clocks and machines fail while they train."""

import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import sqlalchemy as sql
import torch

from conftest import study
from fake_sweep import SPACE, fake_study
from hydratune.cli.main import dispatch
from hydratune.sweep import storage, tracking, worker
from hydratune.sweep.study import ERROR, OWNER
from hydratune.tracking import mlflow
from hydratune.tracking.client import connect
from hydratune.training import setup
from hydratune.training.resume import last_checkpoint
from hydratune.utils import process
from mlflow_server import server
from preloaded import fork
from processes import without_plots

__all__ = ["server"]  # a fixture

RATES = "trainer.args.learning_rate=0.01,0.02,0.03"
HOLD = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(15)
"""


@pytest.fixture
def hold():
    """Lets another process hold a database for 15 s, which ends a writer of optuna that does not wait for it."""
    with ExitStack() as others:

        def begin(path):
            other = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
            assert others.enter_context(other).stdout.readline() == b"held\n"

        yield begin


@pytest.fixture
def before_trial(monkeypatch):
    """Calls what is there for a trial's number right before its training begins."""
    one_run = worker.one_run

    def set_up(actions):
        def watched(study, claim, number, kept):
            actions.get(claim.trial.number, lambda: None)()
            return one_run(study, claim, number, kept)

        monkeypatch.setattr(worker, "one_run", watched)

    return set_up


def runs(uri):
    """All runs of a store: name -> status and number of evaluations; no name is there twice, nor any step."""
    client = connect(uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    for run_id, metric in [(one.info.run_id, metric) for one in found for metric in one.data.metrics]:
        steps = [point.step for point in client.get_metric_history(run_id, metric)]
        assert len(set(steps)) == len(steps), metric
    told = {
        run.info.run_name: (run.info.status, len(client.get_metric_history(run.info.run_id, "eval/loss")))
        for run in found
    }
    assert len(told) == len(found)
    return told


DONE = {f"lr={rate}": ("FINISHED", 2) for rate in ("0.01", "0.02", "0.03")} | {"mine": ("FINISHED", 0)}


def states(trials):
    """Of trials, in their order."""
    return [one.state.name for one in trials]


# --- databases and servers -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_studys_database_is_locked(sweep, store, hold, before_trial):
    """Another process holds it while a trial trains: the sweep waits, and loses nothing."""
    before_trial({1: lambda: hold("s/study.db")})
    code, trials = sweep(RATES, "sweep.name=mine")
    assert (code, states(trials)) == (0, ["COMPLETE"] * 3)
    assert runs(store) == DONE


@pytest.mark.slow
def test_mlflows_database_is_locked(sweep, store, hold, before_trial, monkeypatch, capsys):
    """Another process holds it when a sweep begins, and again while a trial trains: it waits, and loses no point."""
    open_store, first = mlflow.connect, iter(["outputs/mlflow.db"])

    def connect(uri):
        if path := next(first, None):
            hold(path)
        return open_store(uri)

    monkeypatch.setattr(mlflow, "connect", connect)
    before_trial({1: lambda: hold("outputs/mlflow.db")})
    code, trials = sweep(RATES, "sweep.name=mine")
    assert (code, states(trials)) == (0, ["COMPLETE"] * 3)
    assert runs(store) == DONE
    assert "locked by another process" in capsys.readouterr().err


@pytest.mark.slow
def test_the_server_is_down_in_the_middle(sweep, server, before_trial, capsys):
    """Trials end while it is down: once it is back, the sweep itself brings what they had to tell, and no second run."""
    server.start()
    before_trial({1: server.kill, 2: server.start})
    code, trials = sweep(RATES, "sweep.name=mine", "tracking=mlflow", f"tracking.uri={server.uri}")
    assert (code, states(trials)) == (0, ["COMPLETE"] * 3)
    assert runs(server.uri) == DONE
    assert "View run" not in capsys.readouterr().out  # MLflow's own words would break the table


@pytest.mark.slow
@pytest.mark.parametrize("how", ["the same command", "sync"])
def test_the_server_is_down_at_the_end(sweep, server, capsys, how):
    """The sweep says how to bring the rest; that, or the same command again, leaves true states, and trains nothing."""
    typed = [RATES, "sweep.name=mine", "tracking=mlflow", f"tracking.uri={server.uri}"]
    assert sweep(*typed)[0] == 0
    assert re.search(r"hydratune sync s\b", capsys.readouterr().err)
    trained = {path: path.stat().st_mtime for path in Path("s").glob("*/metrics.json")}
    server.start()
    assert (sweep(*typed)[0] if how == "the same command" else dispatch(["sync", "s"])) == 0
    assert runs(server.uri) == DONE
    assert {path: path.stat().st_mtime for path in Path("s").glob("*/metrics.json")} == trained


# --- disks -----------------------------------------------------------------------------------------------


def test_the_disk_is_full_in_one_trial(sweep, store, monkeypatch, capsys):
    """That trial fails alone, with the reason; another try, later, is the same trial and the same MLflow run."""
    save = torch.save

    def failing(value, path, *args):
        if "/s/1/" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, path, *args)

    monkeypatch.setattr(torch, "save", failing)
    code, trials = sweep(RATES, "sweep.name=mine", "sweep.max_retries=0")
    assert (code, states(trials)) == (1, ["COMPLETE", "FAIL", "COMPLETE"])
    assert "No space left on device" in trials[1].user_attrs["error"]
    assert "sweep.max_retries=1" in capsys.readouterr().out
    assert {name: status for name, (status, _) in runs(store).items() if status != "FINISHED"} == {
        "lr=0.02": "FAILED",
        "mine": "FAILED",
    }
    monkeypatch.setattr(torch, "save", save)
    code, trials = sweep(RATES, "sweep.name=mine", "sweep.max_retries=1")
    assert (code, states(trials)) == (0, ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"])
    assert trials[3].params == trials[1].params
    assert runs(store) == DONE


# --- clocks ----------------------------------------------------------------------------------------------


def test_the_clock_jumps_while_a_sweep_trains(sweep, store, monkeypatch):
    """Hours forward and back, at each look at it: every trial once, and true states."""
    real, jumps = time.time, itertools.cycle((0, 3 * 3600, -5 * 3600))
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    code, trials = sweep(RATES, "sweep.name=mine")
    assert (code, states(trials)) == (0, ["COMPLETE"] * 3)
    assert runs(store) == DONE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the begin of a process from its own start")
def test_a_clock_that_was_set_kills_nobody(monkeypatch):
    """A process is alive, and one that is gone is gone, whatever the clock says that its machine was started at."""
    with subprocess.Popen(["sleep", "60"]) as other:  # noqa: S607
        here = process.tags()
        there = {**here, process.PROCESS: f"{other.pid} {process.start_time(other.pid)}"}
        boot = psutil._pslinux.boot_time()
        for jump in (-7200, 7200):
            monkeypatch.setattr(psutil._pslinux, "boot_time", lambda jump=jump: boot + jump)
            assert not process.is_gone(here)
            assert not process.is_gone(there)
        other.kill()
    assert process.is_gone(there)


@pytest.fixture
def elsewhere(monkeypatch):
    """A study here, the study of a worker of another machine, the trial that it has, and a way to let time pass."""
    now = [0.0]
    monkeypatch.setattr(storage, "time", SimpleNamespace(monotonic=lambda: now[0]))
    there, study = fake_study(SPACE), fake_study(SPACE)
    claim = there.claim()
    there.note(claim, OWNER, {**there.noted(claim)[OWNER], process.HOST: "elsewhere"})

    def passes(seconds, sets=0, beats=True):
        """Seconds, at whose end the database's clock is set by `sets`; with a sign of life of the worker, or none."""
        now[0] += seconds
        with study.storage.engine.begin() as connection:
            moved = sql.text("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, :moved)")
            connection.execute(moved, {"moved": f"{sets + seconds * beats} seconds"})

    return study, there, claim, passes


@pytest.mark.slow
@pytest.mark.parametrize("sets", [-86400, 0, 86400])
def test_a_worker_elsewhere_is_alive(elsewhere, sets):
    """As long as it gives signs of life, whatever their clock does."""
    study, there, claim, passes = elsewhere
    for _ in range(20):
        assert study.has_work()
        passes(30, sets=sets)
    assert study.claim().trial.number == 1
    assert there.finish(claim, [0.5], {})
    assert study.trials()[0].values == [0.5]


@pytest.mark.slow
@pytest.mark.parametrize("sets", [-86400, 0, 86400])
def test_a_worker_elsewhere_is_dead(elsewhere, sets):
    """Its trial is free once it was silent for two minutes, from when a clock was last set; and it is taken once."""
    study, there, claim, passes = elsewhere
    study.has_work()
    passes(30, sets=sets, beats=False)
    study.has_work()
    passes(121, beats=False)
    again = study.claim()
    assert (again.trial.number, again.point) == (claim.trial.number, claim.point)
    assert study.claim().trial.number == 1
    assert not there.finish(claim, [0.1], {})  # it was not dead after all, but the trial is another's by now
    assert study.trials()[0].state.name == "RUNNING"


# --- machines --------------------------------------------------------------------------------------------


def _die_elsewhere(typed, step, environment):
    """A sweep on a machine of another name, which is gone at the end of a step of its first trial."""
    from killing import _killer

    os.environ.update(environment)
    without_plots()

    make = setup.make_trainer

    def dying(*args, **kwargs):
        trainer = make(*args, **kwargs)
        trainer.add_callback(_killer(step, signal.SIGKILL))
        return trainer

    process.socket.gethostname = lambda: "elsewhere"
    setup.make_trainer = dying
    sys.argv = ["hydratune"]
    dispatch(["-m", *typed])


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["shared", "lost"])
def test_a_machine_is_gone(toy, sweep, store, monkeypatch, disk):
    """The machine of a parent and its worker is gone for good: others see that it is silent, and end its trial, once.

    It goes on from its checkpoint where the files can be seen, and in the same MLflow run always; so does the sweep's.
    """
    saves = [f"trainer.args.{what}_{key}" for what in ("save", "eval") for key in ("strategy=steps", "steps=2")]
    typed = [RATES, "sweep.name=mine", "trainer.args.per_device_train_batch_size=4", *saves]
    gone = fork(_die_elsewhere, [*toy, "hydra.sweep.dir=s", *typed], 5, dict(os.environ))
    gone.join()
    assert gone.exitcode == -signal.SIGKILL
    left = study().trials
    assert [(one.state.name, one.user_attrs.get(ERROR)) for one in left] == [("RUNNING", None)]
    assert left[0].user_attrs[OWNER][process.HOST] == "elsewhere"
    if disk == "lost":
        shutil.rmtree("s/0")
        for path in Path("s").glob("*tracking*"):
            path.unlink()
    begins = []
    monkeypatch.setattr(setup, "last_checkpoint", lambda *args: begins.append(last_checkpoint(*args)) or begins[-1])
    monkeypatch.setattr(storage, "GRACE", 3)
    monkeypatch.setattr(tracking, "BEAT", 1)
    code, trials = sweep(*typed)
    assert (code, states(trials)) == (0, ["COMPLETE"] * 3)
    assert len(begins) == 3
    assert {one and Path(one).name for one in begins} == {None, *(["checkpoint-4"] if disk == "shared" else [])}
    assert [len(one.intermediate_values) for one in trials] == [8] * 3
    assert {name: status for name, (status, _) in runs(store).items()} == dict.fromkeys(DONE, "FINISHED")
