"""Model versions and aliases in MLflow's registry, which only the user may create and move."""

import json

import pytest

from hydratune.cli.main import dispatch
from hydratune.tracking import logged_models
from hydratune.tracking.base import RunInfo
from hydratune.tracking.journal import JOURNAL
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import ConfigError

MODEL = {
    "kind": "model",
    "folder": "model",
    "name": "m",
    "step": 1,
    "metrics": [],
    "params": {},
    "datasets": {},
    "staged": False,
    "registered_name": "sentiment",
    "alias": "champion",
}


@pytest.fixture
def run_directory(store, own_directory):
    """A run with a pending model that someone else's journal registers."""
    directory = own_directory / "outputs" / "run"
    directory.mkdir()
    with Mlflow(uri=store, experiment_name="films").start(RunInfo("run", directory, {}, {})):
        pass
    with (directory / JOURNAL).open("a") as file:
        file.write(json.dumps(MODEL) + "\n")
    return directory


@pytest.fixture
def registered(monkeypatch):
    """What is registered: name and alias of each recorded model."""
    pairs = []
    monkeypatch.setattr(logged_models, "record", lambda *arguments: pairs.append(arguments[-1].registration))
    return pairs


def test_sync_asks_before_it_registers(run_directory, registered):
    """An alias such as `champion` may be what is deployed."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["sync", str(run_directory)])
    assert [problem.key for problem in caught.value.problems] == ["--register"]
    assert registered == []


@pytest.mark.parametrize(
    ("flag", "expected"), [("--register", ("sentiment", "champion")), ("--no-register", (None, None))]
)
def test_sync_registers_as_the_user_says(run_directory, registered, flag, expected):
    """The model is uploaded in any case."""
    assert dispatch(["sync", str(run_directory), flag]) == 0
    assert registered == [expected]


@pytest.mark.parametrize("alias", ["champion", "candidate", None])
def test_resumed_run_registers_what_its_config_says(run_directory, registered, store, alias):
    """The config was checked; the journal was not."""
    tracking = Mlflow(
        uri=store, experiment_name="films", registered_model_name="sentiment", registered_model_alias=alias
    )
    with tracking.start(RunInfo("run", run_directory, {}, {})):
        pass
    assert registered == [("sentiment", "champion") if alias == "champion" else (None, None)]
