"""Opening of finished runs."""

import os
import sys

import pytest
import yaml

from hydratune.cli import push
from hydratune.evaluation.load_run import open_run
from hydratune.utils.errors import ConfigError

CONFIG = {
    "name": "run",
    "objective": "eval_accuracy",
    "dataset": {"_target_": "hydratune.data.LocalFiles", "files": {"train": "reviews.csv"}},
    "task": {"_target_": "hydratune.tasks.SequenceClassification"},
    "model": {"_target_": "hydratune.models.Pretrained", "pretrained_model_name_or_path": "checkpoint"},
    "adapter": {"_target_": "hydratune.models.NoAdapter"},
    "trainer": {
        "_target_": "hydratune.training.Trainer",
        "_partial_": True,
        "args": {"_target_": "transformers.Seq2SeqTrainingArguments"},
    },
    "hardware": {"_target_": "hydratune.training.Hardware"},
    "tracking": {"_target_": "hydratune.tracking.NoTracking"},
    "sweep": {"_target_": "hydratune.sweep.Sweep"},
}


def stored(directory, changes=None, metrics="{}", config=None):
    """Write the files of a finished run whose config has changed values; `...` removes a key."""
    (directory / "model").mkdir()
    (directory / "model" / "README.md").touch()
    (directory / "metrics.json").write_text(metrics)
    values = {key: value for key, value in {**CONFIG, **(changes or {})}.items() if value is not ...}
    (directory / "config.yaml").write_text(yaml.safe_dump(values) if config is None else config)
    return str(directory)


def run_with(directory, hardware):
    """Write the files that a finished run has, with a stored config of the hardware."""
    return stored(directory, {"hardware": CONFIG["hardware"] | hardware})


def test_open_run_of_another_version_is_one_error(tmp_path):
    """Keys that were renamed since are one error, which names them all."""
    with pytest.raises(ConfigError) as caught:
        open_run(run_with(tmp_path, {"lean": True, "fit_batch": True, "threads": 1}), "")
    (problem,) = caught.value.problems
    assert problem.key == "RUN"
    assert [name in problem.text for name in ("hardware.lean", "hardware.fit_batch", "threads")] == [True, True, False]


def test_open_run_reads_the_keys_of_this_version(tmp_path):
    """A stored config with only known keys is returned as it is."""
    run = open_run(run_with(tmp_path, {"cpu_optimizations": True}), "")
    assert run.cfg.hardware.cpu_optimizations is True


@pytest.mark.parametrize("value", [..., None, [], ["a"], {}, {"a": "b"}, "x", 3], ids=repr)
@pytest.mark.parametrize("key", ["dataset", "task", "model", "trainer", "hardware", "objective", "name"])
def test_open_run_reports_a_node_that_no_run_writes(tmp_path, key, value):
    """A run of someone else, or a file that was changed by hand: one error, not a traceback where the node is read."""
    if key in ("objective", "name") and isinstance(value, str):
        pytest.skip("valid")
    with pytest.raises(ConfigError) as caught:
        open_run(stored(tmp_path, {key: value}), "")
    assert key in {problem.key.partition(".")[0] for problem in caught.value.problems}
    assert {problem.source for problem in caught.value.problems} == {os.path.relpath(tmp_path / "config.yaml")}


@pytest.mark.parametrize("args", [..., None, [], "x", {}, {"output_dir": "x"}], ids=repr)
def test_open_run_reports_arguments_that_no_run_writes(tmp_path, args):
    """Evaluation reads `trainer.args`; without them, or with some that no run may have, nothing is loaded."""
    trainer = {key: value for key, value in (CONFIG["trainer"] | {"args": args}).items() if value is not ...}
    with pytest.raises(ConfigError) as caught:
        open_run(stored(tmp_path, {"trainer": trainer}), "")
    assert {problem.key.partition(".")[0] for problem in caught.value.problems} == {"trainer"}


@pytest.mark.parametrize("metrics", ["", "[]", "null", "3", "{", '{"eval_null_threshold": "x"}', '{"eval_f1": [1]}'])
def test_open_run_reports_metrics_that_no_run_writes(tmp_path, metrics):
    """Thresholds that were tuned on validation are numbers."""
    with pytest.raises(ConfigError) as caught:
        open_run(stored(tmp_path, metrics=metrics), "")
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


@pytest.mark.parametrize("value", [..., None, [], ["a"], {"args": []}, {"args": "x"}, "x", 3], ids=repr)
@pytest.mark.parametrize("key", ["trainer", "dataset"])
def test_push_reads_nothing_of_a_stored_config(tmp_path, monkeypatch, key, value):
    """The name of the repository is the one that the user has typed."""
    pushed = []
    monkeypatch.setattr("hydratune.utils.hub.check_push", lambda *_, **__: None)
    monkeypatch.setattr("hydratune.cli.push.Push", lambda _, repo_id, **__: pushed.append(repo_id) or sys.exit())
    with pytest.raises(SystemExit):
        push.main([stored(tmp_path, {key: value}), "--to", "me/x"])
    assert pushed == ["me/x"]
