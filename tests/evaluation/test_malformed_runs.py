"""A recorded run whose config is malformed cannot be compared, which is a sentence and no traceback."""

import json
from types import SimpleNamespace

import pytest

from hydratune.evaluation.compare.runs import NotComparableError, Run
from hydratune.utils.errors import ConfigError
from mutations import with_wrong_types, without_each_key

CONFIG = {
    "objective": "eval_accuracy",
    "task": {
        "_target_": "hydratune.tasks.SequenceClassification",
        "metrics": ["accuracy"],
        "extra_metrics": {"mine": {"_target_": "hydratune.tasks.metrics.Metric", "name": "mine"}},
    },
}


@pytest.fixture
def run(tmp_path):
    """A run with a directory, in a store without artifacts."""
    info = SimpleNamespace(run_id="x", run_name="n", status="FINISHED", artifact_uri=str(tmp_path / "none"))
    record = SimpleNamespace(info=info, data=SimpleNamespace(params={}, metrics={}, tags={}), inputs=None)
    return Run("A", record, SimpleNamespace(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"), tmp_path)


def test_run_with_any_change_of_its_config_ends_well(run, tmp_path):
    """The control is the unchanged config, whose task is built."""
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    assert Run("A", run.record, run.client, tmp_path).task("accuracy").metrics == ["accuracy"]
    for *change, changed in (*without_each_key(CONFIG), *with_wrong_types(CONFIG)):
        (tmp_path / "config.yaml").write_text(json.dumps(changed))
        for metric in ("accuracy", "mine"):
            try:
                Run("A", run.record, run.client, tmp_path).definition(metric)
                Run("A", run.record, run.client, tmp_path).task(metric)
            except (ConfigError, NotComparableError):
                continue
            except Exception as error:
                pytest.fail(f"{change}: {error!r}")


@pytest.mark.parametrize("probabilities", ["x", 1, {"a": "aaa"}, {"a": None}, ["x"]])
def test_rows_with_malformed_probabilities_are_one_error(run, tmp_path, probabilities):
    """They would be multiplied."""
    (tmp_path / "predictions.jsonl").write_text(json.dumps({"label": "a", "probabilities": probabilities}))
    with pytest.raises(ConfigError):
        _ = run.rows


METRICS = [
    {"low": "${oc.env:S7_TOKEN}"},
    {"low": "${oc.env:"},
    {"low": "???"},
    {"_target_": "transformers.TrainingArguments", "output_dir": "x"},
    {"_target_": "hydratune.data.LocalFiles"},
]


@pytest.mark.parametrize("fields", METRICS)
def test_metric_of_a_run_reads_nothing_and_builds_nothing_else(run, tmp_path, monkeypatch, fields):
    """The config may be someone else's; its values are plain, and only a metric is built."""
    monkeypatch.setenv("S7_TOKEN", "0.5")
    node = {"_target_": "hydratune.tasks.metrics.Metric", "name": "mine", **fields}
    config = {**CONFIG, "task": {**CONFIG["task"], "extra_metrics": {"mine": node}}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    with pytest.raises((ConfigError, NotComparableError)):
        run.task("mine")
