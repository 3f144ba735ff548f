"""Each command x each link of a cloned project: no file of the user elsewhere is changed, or printed.

A command is run with each link at a path that it uses. Other links cannot make a difference.
"""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from fake_sweep import add_grid, fake_study
from hydratune.cli import main, ui
from hydratune.config.project import project_settings
from hydratune.utils.errors import ConfigError

CANARY = "canary-of-the-user"
TRAIN = ["dataset=digits", "task=image_classification", "model=vit_tiny"]
RUN, SWEEP = "outputs/run", "multirun/s"
# Verb -> its commands.
COMMANDS = {
    "init": [["new", "--data", "rows.csv"]],
    "train": [[*TRAIN, f"hydra.run.dir={RUN}"], [*TRAIN, "resume=auto"], ["-m", *TRAIN, "seed=1,2", f"hydra.sweep.dir={SWEEP}"]],
    "resume": [[RUN], [SWEEP]],
    "sweep": [["sweep", name, SWEEP] for name in ("status", "report", "finish")],
    "lr-find": [["lr-find", *TRAIN, f"hydra.sweep.dir={SWEEP}"]],
    "check": [["check", *TRAIN, "experiment=mine", "--config-dir", "conf"]],
    "predict": [["predict", RUN, "rows.csv"], ["predict", RUN, "rows.csv", "--out", f"{RUN}/p.jsonl"]],
    "evaluate": [["evaluate", RUN], ["evaluate", SWEEP]],
    "compare": [["compare", RUN, RUN, "--plot", f"{RUN}/c.png", "--report", f"{RUN}/c.html"], ["compare", SWEEP]],
    "runs": [["runs"], ["runs", RUN], ["runs", "--csv"]],
    "show": [["show", RUN], ["show", SWEEP], ["show", "latest"]],
    "configs": [["configs", "copy", "dataset/local", "conf"], ["configs", "show", "experiment/mine", "--config-dir", "conf"]],
    "env": [["env"]],
    "push": [["push", RUN, "--to", "me/x"]],
    "ui": [["ui", RUN], ["ui", SWEEP], ["ui"]],
    "sync": [["sync", RUN], ["sync", "outputs"], ["sync", SWEEP]],
    "clean": [["clean", "--checkpoints", "--unfinished", "--yes"], ["clean", RUN, "--checkpoints", "--yes"]],
    "trust": [["trust"]],
}  # fmt: skip
RUN_FILES = [
    *("config.yaml", "metrics.json", "predictions.jsonl", "tracking.jsonl", "tracking.sent", "mlflow.json", ".lock"),
    *("labels.json", "model", "model/README.md", "checkpoints", "evaluations", "tables", ".hydra"),
    *(".hydra/overrides.yaml", ".hydra/hydra.yaml", "report.html"),
]
LINKS = [
    *("outputs", "outputs/mlflow.db", "outputs/mlartifacts", RUN, *(f"{RUN}/{name}" for name in RUN_FILES)),
    *("multirun", SWEEP, *(f"{SWEEP}/{name}" for name in ("sweep.json", "study.db", "report", "tracking.jsonl", "0"))),
    *("conf", "conf/experiment", "conf/experiment/mine.yaml", "new"),
]


def write(project, text):
    """Write a project with a finished run and a sweep, of which each file contains a text."""
    hydra = {"hydra": {"runtime": {"cwd": str(project), "config_sources": []}, "job": {"config_name": "train"}}}
    values = {"key": text, "experiment": text, "name": text, "tags": {"note": text}, "began": 0, "status": "FINISHED"}
    entry = {"kind": "run", **values, "uri": f"sqlite:///{project}/outputs/mlflow.db"}
    files = {
        "config.yaml": f"name: {text}\nobjective: eval_accuracy\n",
        "metrics.json": json.dumps({"eval_accuracy": 0.5, f"eval_{text}": 0.5}),
        "predictions.jsonl": json.dumps({"row": 0, "text": text, "label": text, "prediction": text}) + "\n",
        "tracking.jsonl": json.dumps(entry) + "\n",
        "tracking.sent": json.dumps({text: text}),
        "mlflow.json": json.dumps({"uri": entry["uri"], "experiment_id": text, "run_id": text}),
        ".lock": "",
        "labels.json": json.dumps([text, "b"]),
        "model/README.md": f"# {text}\n",
        "checkpoints/checkpoint-1/trainer_state.json": json.dumps({"note": text}),
        "evaluations/x.json": json.dumps({"note": text}),
        "tables/x.csv": text,
        ".hydra/overrides.yaml": f"- +vars.note={text}\n",
        ".hydra/hydra.yaml": json.dumps(hydra),
        "report.html": text,
    }
    for folder in (project / RUN, project / SWEEP / "0"):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    for name, content in {
        "outputs/mlflow.db": text,
        "outputs/mlartifacts/x.txt": text,
        f"{SWEEP}/report/x.html": text,
        f"{SWEEP}/tracking.jsonl": files["tracking.jsonl"],
        "conf/experiment/mine.yaml": f"# @package _global_\nvars: {{note: {text}}}\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    (project / "new").mkdir()
    (project / "rows.csv").write_text("text,label\n" + "x,a\ny,b\n" * 9)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Return a directory with a sweep, whose files contain the canary."""
    folder = tmp_path_factory.mktemp("template")
    with contextlib.chdir(folder):
        study = fake_study([*TRAIN, "seed=1,2", f"+vars.note={CANARY}", f"hydra.sweep.dir={SWEEP}"])
        add_grid(study, 0.1, 0.9)
    return folder


@pytest.fixture
def clone(template, own_directory, monkeypatch):
    """Return a function that writes a new project, and makes it the working directory."""
    monkeypatch.setattr("hydratune.cli.train.run_job", lambda *_, **__: None)
    monkeypatch.setattr("hydratune.sweep.controller.launch_workers", lambda *_, **__: False)
    monkeypatch.setattr(ui, "become_server", lambda *_: None)
    monkeypatch.setattr(ui, "check_port", lambda *_: None)
    monkeypatch.setattr("hydratune.utils.hub.check_push", lambda *_, **__: None)
    monkeypatch.setattr("hydratune.training.push.Push.send", lambda push: str(push.directory))

    def make(name, text):
        project = own_directory / name
        shutil.copytree(template, project)
        plan = project / SWEEP / "sweep.json"
        plan.write_text(plan.read_text().replace(str(template), str(project)).replace(CANARY, text))
        write(project, text)
        project_settings.cache_clear()
        monkeypatch.chdir(project)
        return project

    return make


def snapshot(project):
    """Return the content of all files, and the names of all directories and links."""
    return {
        path.relative_to(project): path.read_bytes() if path.is_file() else os.path.realpath(path)
        for path in sorted(project.rglob("*"))
    }


def used_links(project, verb):
    """Run the commands of a verb in a project without links, and return the links at or above a path that they use."""
    used, is_running = set(), [True]

    def record(event, arguments):  # a hook cannot be removed
        if not is_running or not event.startswith(("open", "os.", "shutil.", "sqlite3.")):
            return
        texts = [os.fsdecode(value) for value in arguments if isinstance(value, (str, bytes, Path))]
        paths = [Path(os.path.abspath(text)) for text in texts]  # noqa: PTH100 (keeps links)
        used.update(paths)
        if event.startswith("shutil."):  # these functions use all files of a directory
            used.update(file for path in paths for file in path.rglob("*"))

    sys.addaudithook(record)
    run(verb)
    is_running.clear()
    used = {folder for path in used for folder in (path, *path.parents)}
    return [link for link in LINKS if project / link in used]


def run(verb):
    """Run the commands of a verb, whatever their errors."""
    for command in COMMANDS[verb]:
        with contextlib.suppress(ConfigError, SystemExit, OSError, ValueError, KeyError):
            arguments = command if verb in ("train", command[0]) else [verb, *command]
            main.dispatch(arguments)


SLOW = ("init", "train", "sweep", "lr-find", "check", "predict", "evaluate", "ui")  # they load models or databases
EFFECTS = ("init", "train", "sweep", "runs", "show", "configs", "clean")  # verbs that print the canary, or change files


def each(verbs):
    """Return the parameters of a test that runs some verbs."""
    return [pytest.param(verb, marks=[pytest.mark.slow] * (verb in SLOW)) for verb in verbs]


def test_all_commands_are_listed():
    """A new command needs a line here."""
    assert {*COMMANDS} == {*main.VERBS}


@pytest.mark.parametrize("verb", each(COMMANDS))
def test_command_follows_no_link_out_of_the_project(clone, capsys, verb):
    """Neither to write nor to print; whatever the command says about the link."""
    victim = clone("victim", CANARY)
    followed = []
    for i, link in enumerate(used_links(clone("plain", "text"), verb)):
        path = clone(f"linked{i}", "text") / link
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(victim / link)
        before = snapshot(victim)
        run(verb)
        output = capsys.readouterr()
        if CANARY in output.out + output.err or snapshot(victim) != before:
            followed.append(link)
    assert not followed, followed


@pytest.mark.parametrize("verb", each(EFFECTS))
def test_canary_works(clone, capsys, verb):
    """Positive control: in the project itself, these commands print the canary, or change files."""
    victim = clone("victim", CANARY)
    before = snapshot(victim)
    run(verb)
    output = capsys.readouterr()
    assert CANARY in output.out + output.err or snapshot(victim) != before
