"""Experiments whose names are unusual for directories."""

from pathlib import Path

import pytest

from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.mlflow import Mlflow


@pytest.mark.parametrize("name", ["../../../escaped", ".hidden", "a/b", "a%2Eb", "x" * 256, "語" * 85])
def test_artifacts_of_any_experiment_are_stored(own_directory, name):
    """Artifacts in hidden directories would be rejected; nothing is written elsewhere."""
    uri = f"sqlite:///{own_directory}/outputs/mlflow.db"
    (own_directory / "outputs" / "run").mkdir(parents=True)
    (own_directory / "outputs" / "run" / "notes.txt").write_text("x")
    with Mlflow(uri=uri, experiment_name=name).start(RunInfo("run", Path("outputs/run"), {}, {})) as run_log:
        run_log.artifact(Path("outputs/run/notes.txt"))
    client = connect(uri)
    experiment = client.get_experiment_by_name(name)
    (run,) = client.search_runs([experiment.experiment_id])
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["notes.txt"]
    assert [path.parent.name for path in own_directory.rglob("notes.txt")].count("artifacts") == 1


@pytest.mark.parametrize("key", ["experiment_name", "run_name"])
def test_names_that_no_store_takes_are_errors(key):
    """Before anything is trained."""
    assert [problem.key for problem in Mlflow(**{key: "x" * 257}).check()] == [key]
