"""Two commands at the same time: each ends with a correct result, or with one error."""

import os
import shutil
import time
from pathlib import Path

import pytest

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.data.cache import TOKENIZED, used_folder
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import FAILED, USER_ERROR
from processes import LONG, start


def ended(*processes):
    """Wait for processes; return their exit codes in order, after a check that none printed a traceback."""
    outputs = [process.communicate() for process in processes]
    assert not [err for _, err in outputs if "Traceback" in err]
    return sorted(process.returncode for process in processes)


def test_clean_leaves_the_cache_of_a_process(own_directory):
    """A run has read or written rows there, and maps them into memory."""
    folder = used_folder(TOKENIZED)
    (folder / "x.arrow").write_bytes(b"x")
    assert dispatch(["clean", "--cache", "--yes"]) == FAILED
    assert (folder / "x.arrow").exists()
    os.environ["HYDRATUNE_CACHE"], cache = str(own_directory / "other"), os.environ["HYDRATUNE_CACHE"]
    used_folder(TOKENIZED)  # the process uses another cache now
    os.environ["HYDRATUNE_CACHE"] = cache
    assert dispatch(["clean", "--cache", "--yes"]) == 0
    assert not folder.exists()


def test_cache_on_a_file_system_without_locks_is_used(monkeypatch):
    """Such as some network file systems."""
    monkeypatch.setattr("fcntl.flock", _refuse)
    assert used_folder(TOKENIZED).is_dir()


def _refuse(*_):
    raise OSError


@pytest.mark.slow
def test_two_runs_in_one_directory(toy):
    """One trains there, and the other one in another directory."""
    command = [*toy, "trainer.args.max_steps=1", "tracking=none", "hydra.run.dir=run"]
    assert ended(*(start(*command) for _ in range(2))) == [0, 0]
    assert sorted(str(path.parent) for path in Path().glob("run*/metrics.json")) == ["run", "run-2"]


@pytest.mark.slow
def test_two_runs_in_one_directory_that_resume(toy):
    """The other one ends with an error, finds a finished run, or began a run of its own."""
    command = [*toy, "trainer.args.max_steps=1", "tracking=none", "hydra.run.dir=run", "resume=auto"]
    assert ended(*(start(*command) for _ in range(2))) in ([0, 0], [0, USER_ERROR])
    assert Path("run/metrics.json").is_file()


@pytest.mark.slow
def test_two_resumes_of_one_run(toy, own_directory):
    """One trains the remaining steps; the other one ends with an error, or finds a finished run."""
    steps = ["trainer.args.save_strategy=steps", "trainer.args.eval_strategy=steps", "trainer.args.save_steps=2"]
    steps += ["trainer.args.eval_steps=2", "trainer.args.max_steps=4", "trainer.args.save_total_limit=3"]
    assert ended(start(*toy, *steps, "tracking=none", "hydra.run.dir=run")) == [0]
    (own_directory / "run" / "metrics.json").unlink()
    shutil.rmtree(own_directory / "run" / "checkpoints" / "checkpoint-4")
    codes = ended(*(start("resume", "run") for _ in range(2)))
    assert codes in ([0, 0], [0, USER_ERROR])
    assert Path("run/metrics.json").is_file()
    assert Path("run/checkpoints/checkpoint-4").is_dir()


@pytest.mark.slow
def test_two_syncs_of_one_run(store, empty_store, own_directory):
    """Another store has one run, with each point once."""
    directory = own_directory / "outputs" / "run"
    directory.mkdir()
    with Mlflow(uri=store, experiment_name="films").start(RunInfo("run", directory, {"lr": 0.1}, {})) as run_log:
        for step in range(50):
            run_log.metrics({"eval_loss": step / 2}, step)
    other = own_directory / "outputs" / "other.db"
    shutil.copy(empty_store, other)
    codes = ended(*(start("sync", directory, "--uri", f"sqlite:///{other}") for _ in range(2)))
    assert codes in ([0, 0], [0, FAILED], [0, USER_ERROR])
    client = connect(f"sqlite:///{other}")
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    points = client.get_metric_history(run.info.run_id, "eval/loss")
    assert sorted(point.step for point in points) == [*range(50)]


@pytest.mark.slow
def test_finish_beside_the_running_sweep(toy):
    """It retrains the best trial so far, and says that the sweep goes on."""
    trials = [fake(0.001, 0, 0.7, folder="0"), fake(0.01, 0.1, state="RUNNING", folder="1")]
    study = fake_study([*toy, "trainer.args.max_steps=1", "tracking=none", *SPACE], *trials)
    process = start("sweep", "finish", study.plan.name, "--seeds", "1")
    assert ended(process) == [0]
    assert "not finished" in process.said()[0]
    assert len([*Path().rglob("metrics.json")]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_run_that_is_removed_while_it_is_read(train, toy, verb):
    """The command has loaded all it needs, or it ends with an error without a traceback."""
    train(*toy, "trainer.args.max_steps=1", directory="gone")
    arguments = ["test.jsonl"] if verb == "predict" else []
    processes = [start(verb, "gone", *arguments)]
    time.sleep(0.3)
    shutil.rmtree("gone")
    processes[0].wait(LONG)
    assert ended(*processes) in ([0], [FAILED], [USER_ERROR])
