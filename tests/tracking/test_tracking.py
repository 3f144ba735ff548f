"""MLflow is told the truth: one run a run, its real end, its real numbers."""

import errno
import itertools
import json
import shlex
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pandas as pd
import psutil
import pytest
from omegaconf import OmegaConf

from conftest import predictions
from hydratune.cli.main import dispatch
from hydratune.config import servers
from hydratune.tracking import system_metrics
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import absolute_uri, address_problem, connect
from hydratune.tracking.journal import Journal
from hydratune.tracking.mlflow import Mlflow, mlflow_metric_name
from hydratune.utils import clock, process
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PRIVATE
from processes import python
from tracked import runs


def test_one_run_that_finished(train, toy, store):
    """A run with evaluation and test is exactly one MLflow run, FINISHED, with metrics against their steps."""
    result = train(*toy, "trainer.args.logging_steps=1", "tracking.experiment_name=films", "seed=3")
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == result.metrics["test_accuracy"]
    client = connect(store)
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == [1, 2]
    assert [p.step for p in client.get_metric_history(run.info.run_id, "eval/accuracy")] == [1, 2]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "overrides.yaml", "environment.txt", "metrics.json", "predictions.jsonl", "tables"} <= files
    assert client.get_experiment(run.info.experiment_id).name == "films"


def params_of(store):
    """The params of each run of a store, the oldest run first."""
    found = sorted(runs(store), key=lambda run: run.info.start_time)
    return [run.data.params for run in found]


@pytest.mark.parametrize("jump", [3 * 3600, -3 * 3600])
def test_clock_is_set_during_a_run(train, toy, store, monkeypatch, jump):
    """Durations are not negative, and the points and the end of a run follow its start."""
    real, set_at = time.time, time.monotonic()
    calls = itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + jump * next(calls))
    result = train(*toy, "trainer.args.logging_steps=1")
    seconds = time.monotonic() - set_at
    (run,) = runs(store)
    assert 0 <= run.info.end_time - run.info.start_time <= seconds * 1000
    points = connect(store).get_metric_history(run.info.run_id, "train/loss")
    assert all(run.info.start_time <= point.timestamp <= run.info.end_time for point in points)
    runtimes = [value for name, value in result.metrics.items() if name.endswith("runtime")]
    assert runtimes
    assert all(0 <= value <= seconds for value in runtimes)


def test_run_that_resumes_before_its_start_ends_after_it(store, own_directory, monkeypatch):
    """The clock of the machine was set back between two processes of a run."""
    facts = RunInfo("run", own_directory, {}, {})
    with Mlflow(uri=store).start(facts):
        pass
    monkeypatch.setattr("hydratune.utils.clock.milliseconds", lambda: 1_000_000)
    with Mlflow(uri=store).start(facts):
        pass
    (run,) = runs(store)
    assert run.info.end_time == run.info.start_time


def test_params_have_every_resolved_value(train, toy, store):
    """A value that nobody set is a param too, next to what hardware, task and data decided."""
    train(*toy, "trainer.args.max_steps=1", "trainer.args.weight_decay=0.3")
    (params,) = params_of(store)
    expected = {
        "dataset": "local",
        "dataset.files.train": "train.jsonl",
        "dataset.max_samples.train": "null",
        "learning_rate": "0.02",
        "seed": "42",
        "max_steps": "1",
        "weight_decay": "0.3",
        "warmup_steps": "0.1",
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch_fused",
        "adam_beta1": "0.9",
        "gradient_accumulation_steps": "1",
        "effective_batch_size": "32",
        "world_size": "1",
        "precision": "fp32",
        "train_sampling_strategy": "group_by_length",
        "max_length": "32",
        "task.max_length": "null",
        "callbacks": "{}",
        "rows.train": "32",
    }
    assert {name: params.get(name) for name in expected} == expected
    assert len(params["digest.train"]) == 32
    (run,) = runs(store)
    assert "wd=0.3" in run.info.run_name


# Values that the yaml has, that it lacks, of data and network, and a default that is said again.
ORIGINS = [
    "trainer.args.weight_decay=0.3",
    "trainer.args.adam_beta2=0.98",
    "trainer.args.max_grad_norm=0.5",
    "trainer.args.adam_beta1=0.9",
    "dataset.max_samples.train=8",
    "dataset.on_bad_rows=error",
    "model.dropout=0.2",
]


def test_params_do_not_depend_on_where_a_value_was_set(compose, train, toy, store, own_directory):
    """The same values from the command line and from an experiment file are the same params."""
    from hydratune.config import composition
    from hydratune.training.job import Job
    from hydratune.training.run import run

    folder = own_directory / "conf" / "experiment"
    folder.mkdir(parents=True)
    body = OmegaConf.to_yaml(OmegaConf.from_dotlist(ORIGINS))
    (folder / "mine.yaml").write_text(f"# @package _global_\n{body}")
    train(*toy, "trainer.args.max_steps=1", *ORIGINS)
    typed = [*toy, "trainer.args.max_steps=1", "experiment=mine"]
    cfg = compose(*typed, config_dir=own_directory / "conf")
    (own_directory / "other").mkdir()
    run(composition.without_hydra(cfg), Job(own_directory / "other", typed, dict(cfg.hydra.runtime.choices)))
    first, second = params_of(store)
    assert first == second


def test_params_have_defaults_of_omitted_keys(train, toy, store):
    """A config without a key and one with the default value of the key have the same params."""
    for i, change in enumerate(("dataset.seed=0", "~dataset.seed")):
        train(*toy, "trainer.args.max_steps=1", change, directory=str(i))
    first, second = params_of(store)
    assert first["dataset.seed"] == "0"
    assert first == second


def test_params_tell_trainings_apart(train, toy, store):
    """Runs that differ in the optimizer, the precision, the rows or the dropout differ in a param, with the same names."""
    changes = ["trainer.args.optim=sgd", "hardware.precision=bf16", "dataset.max_samples.train=16", "model.dropout=0.3"]
    for i, change in enumerate(("seed=42", *changes)):
        train(*toy, "trainer.args.max_steps=1", change, directory=str(i))
    base, *others = params_of(store)
    assert [one.keys() for one in others] == [base.keys()] * len(changes)
    different = [{name for name in base if base[name] != one[name]} for one in others]
    assert "optim" in different[0]
    assert different[1] == {"precision", "eval_precision"}
    assert {"rows.train", "digest.train"} < different[2]
    assert {"dropout", "model.dropout"} == different[3]


def test_training_args_are_those_in_effect(train, toy, store, monkeypatch):
    """The file has what hardware and task have set, and no secret; MLflow has it too."""
    monkeypatch.setenv("MY_TOKEN", "hf_0123456789abcdefgh")
    result = train(*toy, "trainer.args.max_steps=1", "trainer.args.hub_token=${oc.env:MY_TOKEN}")
    text = (result.directory / "training_args.json").read_text()
    found = json.loads(text)
    assert found["train_sampling_strategy"] == "group_by_length"
    assert (found["use_cpu"], found["bf16"], found["max_steps"]) == (True, False, 1)
    assert "hf_0123456789" not in text
    (run,) = runs(store)
    assert "training_args.json" in {file.path for file in connect(store).list_artifacts(run.info.run_id)}


def test_source_command_composes_when_it_is_pasted(toy, store, own_directory):
    """It names the conf directory, without which the experiment does not exist."""
    folder = own_directory / "my conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\ntrainer: {args: {max_steps: 1}}\n")
    assert dispatch(["--config-dir", "my conf", "experiment=mine", *toy]) == 0
    (run,) = runs(store)
    command, *arguments = shlex.split(run.data.tags["mlflow.source.name"])
    assert command == "hydratune"
    assert arguments[:2] == ["--config-dir", "my conf"]
    assert dispatch([*arguments, "--dry-run"]) == 0


def test_provenance_tags(train, toy, store):
    """The command and the versions that made a result are tags."""
    train(*toy, "trainer.args.max_steps=1", "seed=3")
    (run,) = runs(store)
    assert run.data.tags["mlflow.source.name"].startswith("hydratune ")
    assert "seed=3" in run.data.tags["mlflow.source.name"]
    assert {"version.transformers", "version.torch", "version.python"} <= set(run.data.tags)


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_the_end_is_true(train, toy, store, monkeypatch, error, status):
    """An exception is FAILED and an interruption KILLED, and both go on to the caller."""
    import transformers

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(transformers.Trainer, "train", fail)
    with pytest.raises(error):
        train(*toy)
    (run,) = runs(store)
    assert run.info.status == status
    assert run.info.end_time


def test_none_records_nothing(train, toy, own_directory):
    """`tracking=none` makes no store and no pointer."""
    result = train(*toy, "tracking=none", "trainer.args.max_steps=1")
    assert result.link is None
    assert not list(own_directory.rglob("mlflow*"))


def test_the_pointer_leads_to_the_run(train, toy, store):
    """The run's directory says where its MLflow run is, and the result names the command that opens it."""
    result = train(*toy, "trainer.args.max_steps=1")
    pointer = json.loads((result.directory / "mlflow.json").read_text())
    assert pointer["uri"] == store
    assert pointer["run_id"] == runs(store)[0].info.run_id
    assert result.link.endswith("hydratune ui run")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("loss", "train/loss"), ("eval_macro_f1", "eval/macro_f1"), ("test_accuracy", "test/accuracy"),
     ("train_runtime", "train/runtime"), ("grad_norm", "train/grad_norm"), ("train_loss", "train/mean_loss"), ("epoch", "train/epoch")],
)  # fmt: skip
def test_readable_names(name, shown):
    """Trainer's names become sections of MLflow's charts."""
    assert mlflow_metric_name(name) == shown


def test_the_best_step_has_metrics_of_its_own(train, toy, store):
    """`best/...` are the metrics of the weights that were kept, at their step, without bookkeeping."""
    result = train(*toy)
    (run,) = runs(store)
    assert run.data.metrics["best/accuracy"] == result.metrics["eval_accuracy"]
    (point,) = connect(store).get_metric_history(run.info.run_id, "best/accuracy")
    assert point.step == result.metrics["step"]
    assert {name for name in run.data.metrics if name.startswith("best/")} == {
        f"best/{name}" for name in ("loss", "accuracy", "f1", "matthews_correlation")
    }


def test_speed_and_memory(train, toy, store):
    """Samples and tokens a second and the peak of memory are curves."""
    train(*toy, "trainer.args.logging_steps=1")
    (run,) = runs(store)
    assert {"train/samples_per_second", "train/tokens_per_second", "train/peak_memory_gib"} <= set(run.data.metrics)
    assert len(connect(store).get_metric_history(run.info.run_id, "train/tokens_per_second")) == 2


def test_the_rows_are_dataset_inputs(train, toy, store, own_directory):
    """Each split is a dataset input with its content's hash, whatever its file is called."""
    train(*toy, "trainer.args.max_steps=1")
    (own_directory / "test.jsonl").rename("other.jsonl")
    train(*toy, "trainer.args.max_steps=1", "dataset.files.test=other.jsonl", directory="again")
    first, second = ({i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs} for run in runs(store))
    assert set(first) == {"train", "validation", "test"}
    assert first["test"].digest == second["test"].digest != first["validation"].digest
    assert json.loads(first["train"].profile)["num_rows"] == 32


def test_predictions_have_their_inputs(train, toy, store, own_directory):
    """A row of predictions.jsonl has the text, and MLflow shows a sample as a table."""
    result = train(*toy, "trainer.args.max_steps=1")
    texts = [json.loads(line)["text"] for line in (own_directory / "test.jsonl").read_text().splitlines()]
    assert [row["text"] for row in predictions(result)] == texts
    (run,) = runs(store)
    (table,) = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    path = connect(store).download_artifacts(run.info.run_id, table["path"])
    sample = json.loads(Path(path).read_text())
    assert sample["columns"] == ["row", "prediction", "text", "label", "probability", "probabilities"]
    assert len(sample["data"]) == 16


def test_predictions_have_their_groups(train, toy, own_directory):
    """Rows of a test file with the column of `dataset.group_by_column` name their group; digests do not depend on it."""
    for split in ("train", "validation", "test"):
        path = own_directory / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "film": i // 4}) + "\n" for i, row in enumerate(rows)))
    result = train(*toy, "trainer.args.max_steps=1", "dataset.group_by_column=film")
    assert [row["group"] for row in predictions(result)] == [str(i // 4) for i in range(16)]


def test_predictions_have_their_rows(train, toy, own_directory):
    """A row has its position in the test file, also if rows before it were dropped or a limit drew it."""
    path = own_directory / "test.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "no row", json.dumps({"text": "", "label": "pos"}), *lines[1:]]))
    texts = {i: json.loads(line)["text"] for i, line in enumerate(path.read_text().splitlines()) if i not in (1, 2)}
    options = ["dataset.on_bad_rows=skip", "dataset.max_samples.test=9"]
    rows = predictions(train(*toy, "trainer.args.max_steps=1", *options))
    assert len({row["row"] for row in rows}) == 9
    assert all(texts[row["row"]] == row["text"] for row in rows)


def test_held_out_predictions_have_their_rows(train, toy, own_directory):
    """Test rows that are held out have their position in the training file; their digests do not depend on it."""
    path = own_directory / "train.jsonl"
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    options = ["dataset.files.test=null", "dataset.test_size=0.25"]
    rows = predictions(train(*toy, "trainer.args.max_steps=1", *options))
    assert len(rows) == len(texts) // 4
    assert all(texts[row["row"]] == row["text"] for row in rows)


def test_tables_of_labels(train, toy, store):
    """The confusion matrix and the scores of each label are csv and pictures, and add up to the rows."""
    result = train(*toy, "trainer.args.max_steps=1")
    matrix = pd.read_csv(result.directory / "tables" / "confusion_matrix.csv", index_col=0)
    assert matrix.to_numpy().sum() == 16
    assert matrix.to_numpy().trace() / 16 == result.metrics["test_accuracy"]
    (run,) = runs(store)
    assert {file.path for file in connect(store).list_artifacts(run.info.run_id, "tables")} == {
        f"tables/{name}.{kind}" for name in ("confusion_matrix", "per_label", "reliability") for kind in ("csv", "png")
    }


def test_a_failure_leaves_its_traceback(train, toy, store, monkeypatch):
    """The traceback is an artifact and its last line a tag, without passwords."""
    import transformers

    def fail(*_, **__):
        raise RuntimeError("no route to https://me:hunter2@host/x\nnor elsewhere")

    monkeypatch.setattr(transformers.Trainer, "train", fail)
    with pytest.raises(RuntimeError):
        train(*toy)
    (run,) = runs(store)
    assert run.data.tags["error"] == "RuntimeError: no route to https://***@host/x nor elsewhere"
    text = Path(connect(store).download_artifacts(run.info.run_id, "traceback.txt")).read_text()
    assert "in fail" in text
    assert "hunter2" not in text


def test_a_run_that_goes_on_is_the_same_run(store, tmp_path):
    """Continuing adds nothing twice, forgets the old error, and names the params that changed."""
    facts = RunInfo("toy", tmp_path, {"learning_rate": 1, "seed": 7}, {})
    tracking = Mlflow(uri=store)

    def cut_off():
        with tracking.start(facts) as log:
            log.metrics({"loss": 3.0}, 10)
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        cut_off()
    with tracking.start(replace(facts, params={"learning_rate": 2, "seed": 7})) as log:
        log.metrics({"loss": 2.0}, 10)
        log.metrics({"loss": 1.0}, 20)
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["param_drift"] == "learning_rate: 1 -> 2"
    assert run.data.params == {"learning_rate": "1", "seed": "7"}
    assert "error" not in run.data.tags
    history = connect(store).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(10, 3.0), (20, 1.0)]


def test_files_that_are_lost(store, tmp_path):
    """A run that begins again elsewhere, since its directory is lost, is the same run, with each point once."""
    for directory, loss, steps in (("lost", 3.0, 2), ("again", 2.0, 4)):
        with Mlflow(uri=store).start(RunInfo("toy", tmp_path / directory, {}, {}, "its key")) as log:
            for step in range(1, steps + 1):
                log.metrics({"loss": loss}, step)
    (run,) = runs(store)
    history = connect(store).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 3.0), (3, 2.0), (4, 2.0)]


def test_nothing_is_cut_silently(store, tmp_path, caplog):
    """A param or a name that MLflow would refuse is shortened, and that is said."""
    params = {"prompt": "x" * 7000, "f(x)": 1, "short": "y"}
    with Mlflow(uri=store).start(RunInfo("toy", tmp_path, params, {})):
        pass
    (run,) = runs(store)
    assert run.data.params["short"] == "y"
    assert run.data.params["f_x_"] == "1"
    assert run.data.params["prompt"] == "x" * 5997 + "..."
    assert [m for m in caplog.messages if "prompt has 7000 characters" in m]


def test_infinities_are_said(store, tmp_path, caplog):
    """MLflow would store an infinity as 1.8e308: it is left out, with a warning; nan is kept."""
    with Mlflow(uri=store).start(RunInfo("toy", tmp_path, {}, {})) as log:
        log.metrics({"eval_perplexity": float("inf"), "eval_loss": float("nan")}, 3)
    (run,) = runs(store)
    assert list(run.data.metrics) == ["eval/loss"]
    assert [m for m in caplog.messages if "eval/perplexity is infinite at step 3" in m]


def test_a_run_that_was_killed_is_healed(store):
    """RUNNING becomes KILLED where the process is gone; a live one and one of another host stay."""
    client = connect(store)
    with subprocess.Popen(["sleep", "60"]) as sleeping:  # noqa: S607
        began = f"{psutil.Process(sleeping.pid).create_time():.0f}"
        sleeping.kill()
    gone = {**process.tags(), process.PROCESS: f"{sleeping.pid} {began}"}
    made = {
        name: client.create_run("0", tags=tags).info.run_id
        for name, tags in {
            "gone": gone,
            "here": process.tags(),
            "elsewhere": gone | {process.HOST: "other"},
            "theirs": {},
        }.items()
    }
    assert [run.info.run_id for run in process.mark_dead_runs_killed(client)] == [made["gone"]]
    status = {name: client.get_run(run_id).info.status for name, run_id in made.items()}
    assert status == {"gone": "KILLED", "here": "RUNNING", "elsewhere": "RUNNING", "theirs": "RUNNING"}


def test_system_metrics_continue_after_a_resume(store, tmp_path, monkeypatch):
    """The load of the machine is recorded by default, with the seconds since the start of the run as steps."""
    monkeypatch.setattr(system_metrics, "EVERY", 0.05)
    for start in (5, 100):
        with Mlflow(uri=store).start(RunInfo("toy", tmp_path, {}, {})), monkeypatch.context() as later:
            later.setattr(clock, "milliseconds", lambda now=start: Journal(tmp_path).began + 1000 * now)
            while start not in [point.step for point in _cpu_points(tmp_path)]:
                time.sleep(0.01)
    assert "system/cpu_utilization_percentage" in runs(store)[0].data.metrics


def _cpu_points(directory):
    entries = [entry for entry in Journal(directory).entries(0) if entry.kind == "metrics"]
    points = [point for entry in entries for point in entry.values["points"]]
    return [point for point in points if point.name == "system/cpu_utilization_percentage"]


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_system_metrics_do_not_end_a_run(store, tmp_path, monkeypatch, every):
    """A monitor that fails, and a run that is shorter than the interval, leave no points."""
    monkeypatch.setattr(system_metrics, "EVERY", every)
    monkeypatch.setattr(system_metrics, "system_monitors", lambda: 1 / 0)
    with Mlflow(uri=store).start(RunInfo("toy", tmp_path, {}, {})):
        pass
    assert _cpu_points(tmp_path) == []
    assert runs(store)[0].info.status == "FINISHED"


def test_an_alias_needs_a_name():
    """Options that go together are checked together."""
    keys = [problem.key for problem in Mlflow(registered_model_alias="best").check()]
    assert keys == ["registered_model_alias"]
    assert [m.key for m in Mlflow(registered_model_name="a", log_models=False).check()] == ["registered_model_name"]


def test_a_server_that_is_no_mlflow(monkeypatch):
    """A server that is something else is told the same way."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    servers.confirm_typed([f"tracking.uri={uri}"])
    try:
        with pytest.raises(ConfigError) as caught:
            connect(uri)
        (problem,) = caught.value.problems
        assert (problem.key, repr(uri) in problem.text) == ("tracking.uri", True)
    finally:
        server.shutdown()
        server.server_close()


def test_addresses(own_directory):
    """A relative sqlite path counts from the current directory; drivers do not hide the scheme."""
    assert absolute_uri("sqlite:///outputs/a.db") == f"sqlite:///{own_directory}/outputs/a.db"
    assert absolute_uri("sqlite:////abs/a.db") == "sqlite:////abs/a.db"
    assert absolute_uri("http://x") == "http://x"
    assert address_problem("postgresql+psycopg://h/d", "uri") is None


def test_tags_and_names_have_no_values_of_the_environment(own_directory, monkeypatch, compose):
    """They are masked before they are written down, as params are."""
    monkeypatch.setenv("MY_SECRET", "canary-4b7e")
    cfg = compose("+tracking.tags.note=see ${oc.env:MY_SECRET}", "tracking.run_name=${oc.env:MY_SECRET}").tracking
    facts = RunInfo("run", own_directory / "run", {}, {})
    facts.directory.mkdir()
    store = f"sqlite:///{own_directory}/x.db"
    with Mlflow(uri=store, run_name=cfg.run_name, tags=OmegaConf.to_container(cfg.tags, resolve=True)).start(facts):
        pass
    (run,) = runs(store)
    assert (run.info.run_name, run.data.tags["note"]) == ("***", "see ***")
    assert "canary" not in (facts.directory / "tracking.jsonl").read_text()


def test_store_is_created_in_one_step(own_directory, monkeypatch):
    """A store whose creation failed, e.g. on a full disk, is created by the next command."""
    path = own_directory / "outputs" / "mlflow.db"

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("mlflow.MlflowClient.search_experiments", fail)
        with pytest.raises(ConfigError):
            connect(f"sqlite:///{path}")
    assert [file.name for file in path.parent.iterdir()] == ["mlflow.db.lock"]
    assert connect(f"sqlite:///{path}").search_experiments()
    assert path.stat().st_mode & 0o777 == PRIVATE


def test_store_is_created_at_the_target_of_a_link(own_directory):
    """The link stays."""
    path = own_directory / "outputs" / "mlflow.db"
    path.parent.mkdir()
    path.symlink_to("real.db")
    assert connect(f"sqlite:///{path}").search_experiments()
    assert path.is_symlink()
    assert path.with_name("real.db").stat().st_size


def test_errors_of_a_local_store_print_no_traceback(store):
    """The caller reports them."""
    code = (
        "import os, sys; os.dup2(1, 2)\n"
        "from hydratune.tracking.client import connect\n"
        "client = connect(sys.argv[1]); os.truncate('outputs/mlflow.db', 0)\n"
        "try: client.create_experiment('x')\n"
        "except Exception as error: print('raised', type(error).__name__)"
    )
    assert python(code, store).startswith("raised ")


@pytest.mark.parametrize("name", ["a?b"])
def test_tracking_check_names_a_working_directory_that_no_address_can_have(own_directory, monkeypatch, name):
    """Before anything is loaded."""
    (own_directory / name).mkdir()
    monkeypatch.chdir(own_directory / name)
    assert [problem.key for problem in Mlflow().check()] == ["uri"]
    assert not [*Mlflow(uri=f"sqlite:///{own_directory}/mlflow.db").check()]
