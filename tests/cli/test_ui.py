"""`hydratune ui` serves the store of a run on loopback, and to nobody else."""

import json

import pytest

from hydratune.cli.ui import pointers
from hydratune.tracking.client import connect
from hydratune.utils.errors import ConfigError
from mlflow_server import answer, serving


@pytest.mark.slow
def test_serves_a_run(train, toy, store):
    """The printed address is that of the run's experiment; artifacts can be read; a foreign Host is refused."""
    assert store
    result = train(*toy, "trainer.args.max_steps=1")
    pointer = json.loads((result.directory / "mlflow.json").read_text())
    with serving(result.directory) as (base, line):
        assert f"{base}/#/experiments/{pointer['experiment_id']}/runs?workflowType=machine_learning" in line
        _, body = answer(f"{base}/api/2.0/mlflow/runs/get?run_id={pointer['run_id']}")
        assert json.loads(body)["run"]["info"]["status"] == "FINISHED"
        _, body = answer(f"{base}/get-artifact?path=metrics.json&run_uuid={pointer['run_id']}")
        assert json.loads(body)["test_accuracy"] == result.metrics["test_accuracy"]
        assert answer(base, Host="evil.com")[0] == 403


@pytest.mark.slow
def test_a_run_is_recorded_by_a_server(train, toy, store):
    """`tracking.uri=http://...` records the same run with a real MLflow server."""
    with serving("--uri", store) as (base, _):
        result = train(*toy, f"tracking.uri={base}", "tracking.experiment_name=remote")
        client = connect(base)
        experiment = client.get_experiment_by_name("remote")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/accuracy"] == result.metrics["test_accuracy"]
        assert {"config.yaml", "metrics.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_runs_of_a_sweep(own_directory):
    """The directory of a sweep leads to its runs, in their order."""
    for number in (10, 2):
        folder = own_directory / "sweep" / str(number)
        folder.mkdir(parents=True)
        (folder / "mlflow.json").write_text(json.dumps({"uri": "u", "experiment_id": "7", "run_id": f"r{number}"}))
    assert [one["run_id"] for one in pointers(own_directory / "sweep")] == ["r2", "r10"]
    with pytest.raises(ConfigError, match=r"^RUN: expected a run's directory, got '.*' without mlflow\.json"):
        pointers(own_directory)
