"""`hydratune resume` goes on with a run that was killed, as the same run."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.config.options import shipped_dir
from hydratune.config.validate import check_config
from hydratune.evaluation.load_run import started_here
from hydratune.tracking.client import connect
from hydratune.training.resume import last_checkpoint
from hydratune.utils.errors import ConfigError
from processes import hydratune, start
from tracked import runs

STEPS = ["trainer.args.num_train_epochs=32", "trainer.args.logging_steps=4", "trainer.args.save_total_limit=2"]


def logged_until(directory):
    """The last step of the training loss in a run's journal."""
    journal = directory / "tracking.jsonl"
    if not journal.is_file():
        return 0
    lines = [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    points = [point for line in lines if line["kind"] == "metrics" for point in line["points"]]
    return max((step for name, _, _, step in points if name == "train/loss"), default=0)


@pytest.mark.slow
def test_killed_and_resumed(toy, store, own_directory):
    """After kill -9 the same MLflow run ends FINISHED, with one value for each metric and step, and all steps."""
    run = own_directory / "run"
    with start(*toy, *STEPS, f"hydra.run.dir={run}") as process:
        while logged_until(run) < 8:
            assert process.poll() is None, process.said()
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    client = connect(store)
    (experiment,) = [one for one in client.search_experiments() if one.name == own_directory.name]
    (killed,) = client.search_runs([experiment.experiment_id])
    assert killed.info.status == "RUNNING"
    planned = hydratune("resume", "run", "-n")
    assert planned.returncode == 0, planned.stderr
    done = hydratune("resume", "run")
    assert done.returncode == 0, done.stderr
    steps = [
        re.search(r"(?:would resume run|resuming) from step (\d+)", text) for text in (planned.stdout, done.stderr)
    ]
    assert steps[0] and steps[1] and steps[0][1] == steps[1][1]
    (resumed,) = client.search_runs([experiment.experiment_id])
    assert (resumed.info.run_id, resumed.info.status) == (killed.info.run_id, "FINISHED")
    losses = client.get_metric_history(resumed.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(4, 33, 4))
    assert [point.step for point in client.get_metric_history(resumed.info.run_id, "eval/loss")] == list(range(1, 33))
    assert "param_drift" not in resumed.data.tags


@pytest.mark.parametrize("overrides", [[], ["hardware.launch.node_rank=1", "++hardware.launch.rdzv_endpoint=host0"]])
def test_a_finished_run_stays_as_it_is(own_directory, capsys, overrides):
    """Resuming it does nothing and says so, also with the keys that each of several machines needs."""
    (own_directory / "run").mkdir()
    (own_directory / "run" / "metrics.json").write_text("{}")
    (own_directory / "run" / ".hydra").mkdir()
    (own_directory / "run" / ".hydra" / "overrides.yaml").write_text("[]")
    assert dispatch(["resume", "run", *overrides]) == 0
    assert capsys.readouterr().out == "run: finished, nothing to do\n"
    with pytest.raises(ConfigError) as caught:  # which would have no effect
        dispatch(["resume", "run", *overrides, "trainer.args.max_steps=8"])
    assert [problem.key for problem in caught.value.problems] == ["KEY=VALUE"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["resume", "run"], ["resume=auto"]])
def test_resume_uploads_the_rest_of_a_finished_run(toy, store, command):
    """The final upload was interrupted, or the server was down."""
    done = hydratune(*toy, "trainer.args.max_steps=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    client = connect(store)
    (run,) = runs(store)
    client.delete_tag(run.info.run_id, "hydratune.objective")
    client.set_terminated(run.info.run_id, "RUNNING")
    Path("run/tracking.sent").unlink()
    typed = command if command[0] == "resume" else [*toy, "trainer.args.max_steps=1", "hydra.run.dir=run", *command]
    again = hydratune(*typed)
    assert (again.returncode, again.stdout) == (0, "run: finished, nothing to do\n"), again.stderr
    (after,) = runs(store)
    assert (after.info.run_id, after.info.status) == (run.info.run_id, "FINISHED")
    assert "hydratune.objective" in after.data.tags


@pytest.fixture
def stored(own_directory, compose):
    """Makes the directory of a run of someone else with these overrides."""

    def make(*overrides, cwd=own_directory):
        folder = own_directory / "run" / ".hydra"
        folder.mkdir(parents=True)
        node = OmegaConf.create({"hydra": {"runtime": {"cwd": str(cwd)}}})
        node.hydra.runtime.config_sources = compose().hydra.runtime.config_sources
        OmegaConf.save(node, folder / "hydra.yaml")
        (folder / "overrides.yaml").write_text(json.dumps(overrides))
        return own_directory / "run"

    return make


FLAGS = [
    "-m",
    "--multirun",
    "--config-dir=x",
    "--config-path=x",
    "-cd=x",
    "--cfg=job",
    "--dry-run",
    "--shell-completion",
]


@pytest.mark.parametrize("flag", [*FLAGS, 1, {"a": 1}])
def test_stored_flags_are_refused(stored, monkeypatch, flag):
    """With `-m`, a stored run would start a sweep in any directory, and connect to any Ray cluster, as if typed."""
    monkeypatch.setattr("hydratune.cli.resume.train", lambda *_, **__: pytest.fail("it was started"))
    stored("seed=1", flag, "hydra.sweep.dir=/elsewhere", "hydra.launcher.ray.init.address=evil.example:6379")
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", "run"])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


def test_stored_overrides_are_passed_on(stored, monkeypatch):
    """Positive control: the same directory without a flag is resumed."""
    started = []
    monkeypatch.setattr("hydratune.cli.resume.train", lambda arguments, *_, **__: started.append(arguments) or 0)
    monkeypatch.setenv("MY_SECRET", "canary")
    stored("++seed=1", "dataset=digits", "tracking.uri=${oc.env:MY_SECRET}")
    assert dispatch(["resume", "run", "task=masked_lm"]) == 0
    assert started == [["seed=1", "dataset=digits", "tracking.uri=${oc.env:MY_SECRET}", "task=masked_lm"]]


@pytest.mark.parametrize("name", [".hydra/config.yaml", "hydratune.log", "checkpoints"])
def test_stored_links_are_refused(stored, monkeypatch, own_directory, name):
    """Hydra and the log would write through them."""
    monkeypatch.setattr("hydratune.cli.resume.train", lambda *_, **__: pytest.fail("it was started"))
    link = stored("seed=1") / name
    link.symlink_to(own_directory / "mine")
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", "run"])
    (problem,) = caught.value.problems
    assert repr(str(link.absolute())) in problem.text


@pytest.fixture
def rows(own_directory):
    """Rows of the project, and the same in a directory outside it and behind a link of the project."""
    text = "".join(f'{{"text": "a{i}", "label": "{i % 2}"}}\n' for i in range(8))
    (own_directory.parent / "home").mkdir()
    for folder in (own_directory, own_directory.parent / "home"):
        (folder / "rows.jsonl").write_text(text)
    (own_directory / "link.jsonl").symlink_to("../home/rows.jsonl")
    (own_directory / "directory").mkdir()
    (own_directory / "directory" / "rows.jsonl").symlink_to(own_directory.parent / "home" / "rows.jsonl")
    return own_directory.parent / "home" / "rows.jsonl"


FILES = [
    "dataset.files.train={rows}",
    "dataset.files.train=../home/rows.jsonl",
    "dataset.files.train='${{oc.env:ROWS}}'",
    "dataset.files.train='${{vars.x}}/home/rows.jsonl'",
    "dataset.files={{train: '{rows}'}}",
    "dataset.files.train=[rows.jsonl, '{rows}']",
    "dataset.files.train='glob:{home}/*.jsonl'",
    "dataset.files.train=link.jsonl",
    "dataset.files.train=run/../../home/rows.jsonl",
]
BEHIND_LINKS = [  # in a folder or a pattern, so that nobody has chosen them
    "dataset.files.train='glob:l*.jsonl'",
    "dataset.files.train='glob:d*/rows.jsonl'",
    "dataset.files.train=directory",
    "dataset.files.train=.",
]


@pytest.mark.parametrize("cwd", ["/nonexistent", "/proc/self/cwd"])
@pytest.mark.parametrize("override", [*FILES, *BEHIND_LINKS])
def test_data_files_of_another_project_are_refused(stored, monkeypatch, rows, override, cwd):
    """A run of someone else reads no file of the user, since it would be recorded, unless the user types it again."""
    monkeypatch.setenv("ROWS", str(rows))
    more = ["dataset=local", "dataset.files={train: rows.jsonl}", f"+vars.x={rows.parents[1]}", "tracking=none"]
    text = override.format(rows=rows, home=rows.parent)
    stored(*more, text, cwd=cwd)
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", "run", "--dry-run"])
    assert {problem.key for problem in caught.value.problems} == {"dataset.files.train"}


@pytest.mark.parametrize("override", FILES[:-1])
def test_data_files_of_the_own_project_are_the_users_choice(stored, monkeypatch, rows, override):
    """Positive control: the same overrides in the directory where the run was started."""
    monkeypatch.setenv("ROWS", str(rows))
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda *_, **__: "")
    more = ["dataset=local", "dataset.files={train: rows.jsonl}", f"+vars.x={rows.parents[1]}", "tracking=none"]
    stored(*more, override.format(rows=rows, home=rows.parent))
    assert dispatch(["resume", "run", "--dry-run"]) == 0


def test_data_files_of_another_project_can_be_typed(stored, monkeypatch, rows):
    """And files inside the project, as of a project that was moved, are read."""
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda *_, **__: "")
    stored("dataset=local", "dataset.files={train: rows.jsonl}", "tracking=none", cwd="/nonexistent")
    assert dispatch(["resume", "run", "--dry-run"]) == 0
    assert dispatch(["resume", "run", f"dataset.files.train={rows}", "--dry-run"]) == 0


@pytest.mark.parametrize(("cwd", "more"), [("/nonexistent", []), ("/proc/self/cwd", ["trainer.args.weight_decay=0"])])
def test_data_files_of_another_sweep_are_refused(own_directory, monkeypatch, rows, cwd, more):
    """Its winner is not retrained on files of the user, unless the user types them."""
    monkeypatch.setattr("hydratune.cli.sweep_finish.train", lambda *_, **__: 0)
    fake_study(["dataset=local", f"dataset.files={{train: {rows}}}", *SPACE], fake(1e-3, 0, 0.5))
    (path,) = own_directory.glob("multirun/*/sweep.json")
    finish = ["sweep", "finish", str(path.parent), *more]
    assert dispatch(finish) == 0
    path.write_text(json.dumps({**json.loads(path.read_text()), "cwd": cwd}))
    with pytest.raises(ConfigError) as caught:
        dispatch(finish)
    assert [problem.key for problem in caught.value.problems] == ["dataset.files.train"]
    assert dispatch([*finish, f"dataset.files.train={rows}"]) == 0


@pytest.mark.parametrize("flag", [["--config-path", "mine"], ["--config-path=mine"], ["-cp", "./mine"]])
def test_config_path_can_be_relative(own_directory, monkeypatch, flag):
    """A run of a primary config of the user starts, and is resumed: Hydra alone takes only absolute paths."""
    shutil.copytree(shipped_dir(), own_directory / "mine")
    started = []
    monkeypatch.setattr("hydratune.cli.train.run_job", lambda cfg, **_: started.append(cfg.seed))
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda *_, **__: SimpleNamespace(checkpoint=None))
    monkeypatch.setattr("sys.argv", ["hydratune"])
    typed = ["dataset=digits", "task=image_classification", "model=vit_tiny", "tracking=none", "hydra.run.dir=run"]
    assert dispatch([*flag, *typed, "seed=7"]) == 0
    assert dispatch(["resume", "run"]) == 0
    assert started == [7, 7]


def test_resume_leaves_a_run_of_someone_else_theirs(own_directory, monkeypatch):
    """After a failure, the same command has the same limits: its files are not the user's choice."""
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda *_, **__: SimpleNamespace(checkpoint=None))
    monkeypatch.setattr("hydratune.cli.train.run_job", lambda *_, **__: None)
    dispatch(["experiment=digits", "tracking=none", "hydra.run.dir=run"])
    path = own_directory / "run" / ".hydra" / "hydra.yaml"
    path.write_text(path.read_text().replace(f"cwd: {own_directory}", "cwd: /nonexistent"))
    assert not started_here(own_directory / "run")
    for _ in range(2):
        assert dispatch(["resume", "run"]) == 0
        assert not started_here(own_directory / "run")


def test_no_run(own_directory):
    """A directory that is no run is an error."""
    assert own_directory
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", "nowhere"])
    (problem,) = caught.value.problems
    assert (problem.key, "'nowhere'" in problem.text, "hydratune runs" in problem.hint) == ("RUN", True, True)


@pytest.mark.parametrize("torn", ["", '{"global_step": 1'])
def test_a_torn_checkpoint_is_left_out(own_directory, caplog, torn):
    """A Trainer that is not ours writes in place: it goes on from the last that is whole, by number, and says so."""
    for number, state in ((9, "{}"), (10, "{}"), (11, torn)):
        folder = own_directory / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    (own_directory / "checkpoint-12").mkdir()
    trainer = SimpleNamespace(args=SimpleNamespace(output_dir=str(own_directory)))
    assert last_checkpoint(trainer, {}) == str(own_directory / "checkpoint-10")
    assert "skipped checkpoint-11: it is incomplete" in caplog.text


@pytest.mark.slow
def test_the_same_command(toy, store, own_directory):
    """With resume=auto it goes on with its last run where that was cut off, and does nothing where it finished."""
    assert store
    command = [*toy, "trainer.args.num_train_epochs=20", "resume=auto"]
    with start(*command) as process:
        while not list(own_directory.glob("outputs/*-*/*/checkpoints/checkpoint-*")):
            assert process.poll() is None, process.said()
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)  # it stays in its directory, and is not done
        second = hydratune(*command)
        process.kill()
    (directory,) = own_directory.glob("outputs/*-*/*")
    assert second.returncode == 2
    assert f"another process is running in '{directory.relative_to(own_directory)}'" in second.stderr
    assert hydratune(*toy, "trainer.args.num_train_epochs=2", "resume=auto", "hydra.run.dir=other").returncode == 0
    again = hydratune(*command)
    assert again.returncode == 0, again.stderr
    assert f"files    {directory.relative_to(own_directory)}" in again.stdout
    assert hydratune(*command).stdout == f"{directory.relative_to(own_directory)}: finished, nothing to do\n"
    run_id = json.loads((directory / "mlflow.json").read_text())["run_id"]
    assert hydratune("resume", run_id).stdout == f"{run_id}: finished, nothing to do\n"
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_resume_is_auto_or_nothing(compose):
    """Another word is an error."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("resume=yes"))
    assert [(problem.key, "'yes'" in problem.text) for problem in caught.value.problems] == [("resume", True)]
