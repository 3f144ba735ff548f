"""Sweeps whose processes are killed: real processes, real signals, at random moments."""

import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

import processes
from conftest import study
from hydratune.tracking.client import connect
from hydratune.utils.errors import SAVED

pytestmark = pytest.mark.slow
GRID = ["trainer.args.learning_rate=0.01,0.02", "trainer.args.weight_decay=0,0.1", "objective=eval_loss"]


def command(toy, directory, *more):
    """A sweep of four trials of a few seconds each."""
    epochs = ["trainer.args.num_train_epochs=12", "trainer.args.per_device_train_batch_size=8"]
    return ["-m", *toy, *epochs, *GRID, f"hydra.sweep.dir={directory}", *more]


def start(*typed):
    """The sweep in a process group of its own."""
    return processes.start(*typed, session=True)


def finish(*typed):
    """What the sweep prints when nobody disturbs it."""
    done = processes.hydratune(*typed)
    assert done.returncode == 0, done.stderr
    return done


def told(directory):
    """State, point and values of each trial."""
    return [(one.number, one.state.name, one.params, one.values) for one in study(directory).trials]


def workers(process):
    """Processes that train for a sweep."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [one for one in below if "LokyProcess" in " ".join(one.cmdline())]


def wait_for(what, process):
    """Waits until something is there while a sweep runs."""
    while not (found := what()):
        assert process.poll() is None, process.said()
        time.sleep(0.05)
    return found


def in_mlflow(store, directory):
    """Name -> status and number of evaluations of each run; the parent's name is that of the sweep."""
    client = connect(store)
    parent = json.loads((Path(directory) / "mlflow.json").read_text())
    runs = client.search_runs([parent["experiment_id"]], f"tags.`mlflow.parentRunId` = '{parent['run_id']}'")
    runs.append(client.get_run(parent["run_id"]))
    return sorted(
        (run.info.run_name, run.info.status, len(client.get_metric_history(run.info.run_id, "eval/loss")))
        for run in runs
    )


def test_killed_ten_times(toy, store):
    """Kill -9 of everything at ten random moments: the same trials, values and MLflow runs as undisturbed."""
    finish(*command(toy, "whole", "sweep.name=one"))
    chance = random.Random(7)
    for _ in range(10):
        process = start(*command(toy, "cut", "sweep.name=one"))
        time.sleep(chance.uniform(0.2, 4))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(*command(toy, "cut", "sweep.name=one"))
    assert told("cut") == told("whole")
    assert sorted(path.name for path in Path("cut").glob("[0-9]*")) == ["0", "1", "2", "3"]
    assert in_mlflow(store, "cut") == in_mlflow(store, "whole")
    assert {status for _, status, _ in in_mlflow(store, "cut")} == {"FINISHED"}


def test_killed_within_a_fold(toy):
    """Kill -9 within the second of three folds: the same value, and each row is predicted once, by the same fold."""
    folds = ["cv.folds=3", "tracking=none", "trainer.args.num_train_epochs=6", "objective=eval_loss"]
    folds += ["trainer.args.per_device_train_batch_size=8", "task.tune_threshold=f1"]
    finish("-m", *toy, *folds, "hydra.sweep.dir=whole", "sweep.name=one")
    typed = ["-m", *toy, *folds, "hydra.sweep.dir=cut", "sweep.name=one"]
    process = start(*typed)
    wait_for(lambda: list(Path("cut").glob("0/fold=1/checkpoints/checkpoint-*")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not Path("cut/0/fold=1/metrics.json").exists()
    finish(*typed)
    assert told("cut") == told("whole")
    predicted = Path("cut/0/out_of_fold.jsonl").read_text()
    assert predicted == Path("whole/0/out_of_fold.jsonl").read_text()
    places = [(row["split"], row["row"]) for row in map(json.loads, predicted.splitlines())]
    assert sorted(places) == [*(("train", i) for i in range(32)), *(("validation", i) for i in range(24))]


def test_a_worker_is_killed(toy, store):
    """The sweep starts another one, which goes on from the checkpoint; each trial is there once."""
    process = start(*command(toy, "s", "sweep.workers=2", "trainer.args.num_train_epochs=10"))
    try:
        wait_for(lambda: list(Path("s").glob("[0-9]/checkpoints/checkpoint-*")), process)
        workers(process)[0].kill()
        said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert [(number, state) for number, state, _, _ in told("s")] == [(n, "COMPLETE") for n in range(4)]
    assert [(status, count) for _, status, count in in_mlflow(store, "s")] == [*[("FINISHED", 10)] * 4, ("FINISHED", 0)]


def test_the_parent_is_killed(toy):
    """Its workers end by themselves, and the same command goes on."""
    typed = command(toy, "s", "sweep.workers=2", "tracking=none", "trainer.args.num_train_epochs=10")
    process = start(*typed)
    wait_for(lambda: list(Path("s").glob("[0-9]/checkpoints/checkpoint-*")), process)
    left = workers(process)
    assert left
    process.kill()
    process.communicate()
    psutil.wait_procs(left, timeout=processes.LONG)
    assert not [one for one in left if one.is_running()]
    finish(*typed)
    assert [(number, state) for number, state, _, _ in told("s")] == [(n, "COMPLETE") for n in range(4)]


@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c(toy, store, count):
    """Ctrl-C ends a sweep and its workers, says how to go on, and MLflow says KILLED."""
    process = start(*command(toy, "s", f"sweep.workers={count}", "trainer.args.num_train_epochs=1000"))
    wait_for(lambda: list(Path("s").glob("[0-9]/checkpoints/checkpoint-*")), process)
    left = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    said = "".join(process.communicate())
    assert process.returncode == SAVED
    assert "finished trials are saved; resume with: " in said
    assert "Traceback" not in said
    psutil.wait_procs(left, timeout=processes.LONG)
    assert not [one for one in left if one.is_running() and "LokyProcess" in " ".join(one.cmdline())]
    client = connect(store)
    pointers = [json.loads(path.read_text()) for path in Path("s").glob("**/mlflow.json")]
    assert {client.get_run(one["run_id"]).info.status for one in pointers} == {"KILLED"}


def test_sigterm_to_the_parent(toy):
    """SIGTERM to a sweep's command reaches its workers: each trial is saved first, and the exit code is 75."""
    process = start(*command(toy, "s", "sweep.workers=2", "trainer.args.num_train_epochs=1000", "tracking=none"))
    wait_for(lambda: len({path.parts[1] for path in Path("s").glob("[0-9]/checkpoints/checkpoint-*")}) == 2, process)
    left = workers(process)
    process.send_signal(signal.SIGTERM)
    said = "".join(process.communicate())
    assert (process.returncode, "Traceback" in said) == (SAVED, False), said
    assert psutil.wait_procs(left, timeout=processes.LONG)[1] == []
    assert ["saved at step" in Path(f"s/{trial}/hydratune.log").read_text() for trial in (0, 1)] == [True, True]


def test_sigterm_to_the_parent_of_an_idle_worker(toy):
    """A worker without work stays until the other one has saved its trial."""
    process = start(
        *command(toy, "s", "sweep.workers=2", "sweep.n_trials=1", "trainer.args.num_train_epochs=1000", "tracking=none")
    )
    logs = Path("s/workers")
    wait_for(lambda: any("no trials left" in path.read_text() for path in logs.glob("*/*.log")), process)
    wait_for(lambda: list(Path("s").glob("0/checkpoints/checkpoint-*")), process)
    process.send_signal(signal.SIGTERM)
    said = "".join(process.communicate())
    assert (process.returncode, "Traceback" in said) == (SAVED, False), said
    assert "saved at step" in Path("s/0/hydratune.log").read_text()


def test_two_parents_at_once(toy, store):
    """Two starts of one sweep at the same moment share it: each trial once, one parent run."""
    typed = command(toy, "s", "trainer.args.num_train_epochs=6")
    both = [start(*typed) for _ in range(2)]
    outs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert [(number, state) for number, state, _, _ in told("s")] == [(n, "COMPLETE") for n in range(4)]
    runs = in_mlflow(store, "s")
    client = connect(store)
    assert len(runs) == len(client.search_runs([one.experiment_id for one in client.search_experiments()])) == 5
    assert {status for _, status, _ in runs} == {"FINISHED"}
