"""What publishes a model or reports to a tracker is typed: no config and no run of someone else decides it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hydratune.cli import main
from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config import allowlist
from hydratune.config.composition import Request, composer
from hydratune.config.project import project_settings
from hydratune.utils import places
from hydratune.utils.errors import ConfigError
from hydratune.utils.telemetry import turn_off_telemetry

PUSH = {"push_to_hub": True, "hub_model_id": "evil/x"}
FILES = [
    (PUSH, [], {*PUSH}),
    ({**PUSH, "push_to_hub": "${vars.yes}"}, [], {*PUSH}),
    ({**PUSH, "push_to_hub": "${oc.decode:'true'}"}, [], {*PUSH}),
    ({**PUSH, "hub_private_repo": False}, [], {*PUSH, "hub_private_repo"}),
    ({"hub_model_id": "me/production"}, {"push_to_hub": True}, {"hub_model_id"}),
    ({"hub_private_repo": False}, PUSH, {"hub_private_repo"}),
    ({"hub_private_repo": None}, PUSH, {"hub_private_repo"}),
    ({"report_to": "wandb"}, [], {"report_to"}),
    ({"report_to": "all"}, [], {"report_to"}),
    ({"report_to": ["tensorboard"]}, [], {"report_to"}),
    ({"report_to": ["none", "trackio"]}, [], {"report_to"}),
    ({"report_to": "${vars.tracker}"}, [], {"report_to"}),
]


def refused(*overrides, **where):
    """The keys of what checking refuses."""
    request = Request(tuple(overrides), **where)
    with composer(request):
        try:
            checked(request)
        except ConfigError as error:
            return {problem.key.removeprefix("trainer.args.") for problem in error.problems}
    return set()


def texts(args):
    """Overrides of arguments of the Trainer."""
    return [f"trainer.args.{name}={json.dumps(value)}" for name, value in dict(args).items()]


@pytest.fixture
def experiment(own_directory):
    """Writes an experiment with arguments of the Trainer; returns where configs are read from."""

    def write(args):
        folder = own_directory / "mine" / "experiment"
        folder.mkdir(parents=True)
        content = {"trainer": {"args": args}, "vars": {"yes": True, "tracker": "wandb"}}
        (folder / "evil.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content))
        return own_directory / "mine"

    return write


@pytest.mark.parametrize(("args", "typed", "keys"), FILES)
def test_config_publishes_nothing(experiment, args, typed, keys):
    """Neither directly, nor by an interpolation, nor by a value that makes a typed push public."""
    assert refused("experiment=evil", *texts(typed), config_dir=experiment(args)) == keys


@pytest.mark.parametrize("args", [PUSH, {**PUSH, "hub_private_repo": False}, {"report_to": "tensorboard"}])
def test_command_line_publishes(own_directory, args):
    """Positive control."""
    assert not refused(*texts(args))
    assert own_directory.is_dir()


def test_config_that_sends_nothing_is_accepted(experiment):
    """The name of the repository, and whether it is private, do nothing by themselves."""
    args = {"hub_model_id": "me/x", "hub_private_repo": False, "report_to": []}
    assert not refused("experiment=evil", config_dir=experiment(args))


@pytest.mark.parametrize(
    ("variable", "is_refused"),
    [
        *((name, True) for name in ("CI_COMMIT_MESSAGE", "MLFLOW_TRACKING_TOKEN", "HALF_TOKEN", "TOKEN")),
        *(
            (name, False)
            for name in ("HF_TOKEN", "hf_work_token", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
        ),
    ],
)
def test_config_takes_the_token_from_no_other_variable(experiment, monkeypatch, variable, is_refused):
    """Someone else who writes the text of a variable would choose the account that receives the model."""
    monkeypatch.setenv(variable, "hf_of-someone-else")
    token = f"${{oc.env:{variable}}}"
    keys = refused("experiment=evil", *texts(PUSH), config_dir=experiment({"hub_token": token}))
    assert keys == ({"hub_token"} if is_refused else set())
    assert not refused(f"trainer.args.hub_token='{token}'", *texts(PUSH))  # the user may type any


@pytest.mark.parametrize("place", ["/nonexistent", "/proc/self/cwd", "."])
def test_run_of_someone_else_publishes_nothing(own_directory, place):
    """The stored overrides of a run that was started elsewhere are not the user's."""
    folder = own_directory / "theirs" / ".hydra"
    folder.mkdir(parents=True)
    (folder / "overrides.yaml").write_text(json.dumps(texts(PUSH)))
    (folder / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": place, "config_sources": []}}}))
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", "theirs", "--dry-run"])
    assert {problem.key for problem in caught.value.problems} == {f"trainer.args.{name}" for name in PUSH}


CALLBACKS = ["AzureML", "ClearML", "CodeCarbon", "Comet", "DagsHub", "DVCLive", "Flyte", "MLflow", "Neptune",
             "SwanLab", "TensorBoard", "Trackio", "Wandb"]  # fmt: skip


@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("package", ["transformers.integrations", "transformers.integrations.integration_utils"])
def test_callbacks_that_report_are_refused(package, name):
    """They write outside the directory of the run, e.g. a store of MLflow, or send metrics to a server."""
    assert allowlist.check_target(f"{package}.{name}Callback", "trainer.callbacks.x._target_")


@pytest.mark.parametrize("name", ["EarlyStoppingCallback", "PrinterCallback", "trainer_callback.ProgressCallback"])
def test_other_callbacks_are_accepted(name):
    """Positive control."""
    assert not allowlist.check_target(f"transformers.{name}", "trainer.callbacks.x._target_")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", {"_data_files": [{"filename": "../private/data.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "{private}/data.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "https://evil.example/data.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "data.arrow"}, {"filename": "x/../../private/data.arrow"}]}),
        ("train/state.json", {"_data_files": [{"filename": "../../private/data.arrow"}]}),
        ("dataset_dict.json", {"splits": ["../private"]}),
        ("dataset_dict.json", {"splits": ["train", "{private}"]}),
        ("dataset_dict.json", {"splits": ["hf://datasets/evil/x"]}),
    ],
)
def test_saved_dataset_names_no_files_elsewhere(own_directory, name, content):
    """`datasets` would read them."""
    path = own_directory / "saved" / name
    path.parent.mkdir(parents=True)
    (own_directory / "saved" / "dataset_info.json").write_text("{}")
    path.write_text(json.dumps(content).replace("{private}", str(own_directory.parent / "private")))
    assert refused("dataset=saved", "dataset.path=saved") == {"dataset.path"}


@pytest.mark.parametrize("linked", ["data-00000-of-00001.arrow", "train"])
def test_saved_dataset_with_links_is_refused(own_directory, linked):
    """A file or directory of it may lead to rows elsewhere."""
    from datasets import Dataset

    Dataset.from_dict({"text": ["secret"]}).save_to_disk("private")
    Dataset.from_dict({"text": ["x"]}).save_to_disk("saved")
    assert not refused("dataset=saved", "dataset.path=saved")
    link = own_directory / "saved" / linked
    link.unlink(missing_ok=True)
    link.symlink_to(own_directory / "private" / linked)
    assert refused("dataset=saved", "dataset.path=saved") == {"dataset.path"}


def test_saved_dataset_elsewhere_would_be_read(own_directory):
    """Positive control: `datasets` follows the name."""
    from datasets import Dataset, load_from_disk

    Dataset.from_dict({"text": ["secret"]}).save_to_disk("saved")
    (file,) = Path("saved").glob("*.arrow")
    file.rename(own_directory / "private.arrow")
    state = json.loads(Path("saved/state.json").read_text())
    Path("saved/state.json").write_text(json.dumps({**state, "_data_files": [{"filename": "../private.arrow"}]}))
    assert load_from_disk("saved")["text"][:] == ["secret"]
    assert refused("dataset=saved", "dataset.path=saved") == {"dataset.path"}


# Options, key of a config file, and its value with `$` in place of a variable: the Hub or another server receives it.
MODEL = ["dataset=digits", "model=pretrained", "model.pretrained_model_name_or_path=me/x"]
HUB = ["dataset=hub", "name=x", "tracking.experiment_name=x", "dataset.path=me/x"]
FILE = ["dataset=local", "dataset.files.train=a.csv"]
NAMES = [
    (MODEL[:2], "model.pretrained_model_name_or_path", "evil/$"),
    (MODEL[:2], "model.pretrained_model_name_or_path", "evil/${vars.x}"),
    (MODEL[:2], "model.pretrained_model_name_or_path", "$"),
    (MODEL, "model.revision", "a$"),
    (MODEL, "model.tokenizer", "evil/$"),
    (HUB[:3], "dataset.path", "evil/$"),
    (HUB, "dataset.name", "$"),
    (HUB, "dataset.revision", "$"),
    (["dataset=digits"], "trainer.args.hub_model_id", "evil/$"),
]


@pytest.fixture
def file_with(own_directory, monkeypatch):
    """Writes an experiment with a value of a key; returns the keys that checking refuses."""
    monkeypatch.setattr("hydratune.utils.env_variables.resolved_values", {})
    monkeypatch.setattr("hydratune.utils.hub.is_reachable", lambda: True)
    monkeypatch.setenv("ORDINARY", "canary-0123")
    file = own_directory / "mine" / "experiment" / "evil.yaml"
    file.parent.mkdir(parents=True)

    def keys(options, key, value, *typed):
        content = {"vars": {"x": "${oc.env:ORDINARY}"}}
        node, name = content, key
        while "." in name:
            first, _, name = name.partition(".")
            node = node.setdefault(first, {})
        node[name] = value
        file.write_text("# @package _global_\n" + yaml.safe_dump(content))
        return refused(*options, "experiment=evil", *typed, config_dir=own_directory / "mine")

    return keys


@pytest.mark.parametrize(("options", "key", "value"), NAMES)
def test_config_puts_no_variable_into_a_name_that_is_sent(file_with, options, key, value):
    """Whatever the variable's name; the controls are another text in the file, and the same one typed."""
    from_variable = value.replace("$", "${oc.env:ORDINARY}") if "{" not in value else value
    short = key.removeprefix("trainer.args.")
    assert short in file_with(options, key, from_variable)
    assert short not in file_with(options, key, value.replace("${vars.x}", "x").replace("$", "another-0123"))
    assert short not in file_with(options, key, "another-0123", f"{key}='{from_variable}'")


def test_config_may_read_local_files_by_a_variable(file_with, own_directory, tiny_model):
    """No server receives the path of a directory that exists, or that has an absolute path."""
    folder = shutil.copytree(tiny_model, own_directory / "canary-0123")
    (folder / "a.csv").write_text("text,label\n" + "a,x\nb,y\n" * 9)
    name, files = "model.pretrained_model_name_or_path", "dataset.files.train"
    for value in ("$", "./$", f"{own_directory}/$"):
        assert name not in file_with(MODEL[:2], name, value.replace("$", "${oc.env:ORDINARY}"))
    assert files not in file_with(FILE[:1], files, f"{own_directory}/${{oc.env:ORDINARY}}/a.csv")
    assert name in file_with(MODEL[:2], name, "evil/${oc.env:ORDINARY}")


@pytest.mark.parametrize("value", ["$::", "x::$", "glob:x::$", "$"])
def test_config_puts_no_variable_into_a_revision(file_with, own_directory, value):
    """Which is no path, even if a file of this name exists."""
    (own_directory / "canary-0123").touch()
    text = value.replace("$", "${oc.env:ORDINARY}")
    assert "model.revision" in file_with(
        [*MODEL[:2], "model.pretrained_model_name_or_path=me/x"], "model.revision", text
    )


SETTINGS = {
    "wandb/settings": "wandb",
    ".wandb/settings": "wandb",
    ".comet.config": "comet_ml",
    ".env": "comet_ml",
    ".codecarbon.config": "codecarbon",
    ".dvc/config": "dvclive",
}


@pytest.fixture
def settings(own_directory, monkeypatch):
    """Write the settings of a tracker in the project, with the server of someone else."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory.parent / "config"))
    monkeypatch.setattr(places, "trusted_for_this_command", [])
    project_settings.cache_clear()

    def write(name="wandb/settings", text="[default]\nbase_url = http://evil.example\n"):
        (own_directory / name).parent.mkdir(exist_ok=True)
        (own_directory / name).write_text(text)

    return write


@pytest.mark.parametrize(("name", "tracker"), SETTINGS.items())
@pytest.mark.parametrize("reporters", ["{}", "all", "[tensorboard, {}]"])
def test_settings_of_the_project_choose_no_server_of_a_tracker(settings, name, tracker, reporters):
    """The client of a tracker would send the user's key there."""
    settings(name)
    assert refused(f"trainer.args.report_to={reporters.format(tracker)}") == {"report_to"}


@pytest.mark.parametrize("reporter", ["none", "tensorboard", "[none]", "[]", "wandb"])
def test_settings_do_not_matter_to_other_trackers(settings, reporter):
    """Positive control."""
    settings(".env")
    assert refused(f"trainer.args.report_to={reporter}") == set()


def test_settings_count_once_they_are_trusted_until_they_change(settings, capsys):
    """Positive control: they may be the user's own."""
    settings()
    assert dispatch(["trust"]) == 0
    assert "wandb/settings" in capsys.readouterr().out
    assert refused("trainer.args.report_to=wandb") == set()
    settings(text="[default]\nbase_url = http://other.example\n")
    assert refused("trainer.args.report_to=wandb") == {"report_to"}


def test_settings_of_a_pipe_are_never_trusted(settings, own_directory):
    """What they say is unknown."""
    settings()
    (own_directory / "wandb" / "settings").unlink()
    os.mkfifo(own_directory / "wandb" / "settings")
    dispatch(["trust"])
    assert refused("trainer.args.report_to=wandb") == {"report_to"}


def test_trials_of_a_sweep_report_to_no_server_of_the_project(settings):
    """Each of them is checked like a run."""
    settings()
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "plan", "experiment=digits", "seed=1,2", "trainer.args.report_to=wandb"])
    assert {problem.key for problem in caught.value.problems} == {"trainer.args.report_to"}


STATISTICS = {
    "ray": "from ray._common.usage import usage_lib; print(usage_lib.usage_stats_enabled())",
    "mlflow": "from mlflow.telemetry.utils import is_telemetry_disabled; print(not is_telemetry_disabled())",
    "huggingface_hub": "from huggingface_hub import constants; print(not constants.HF_HUB_DISABLE_TELEMETRY)",
}


@pytest.mark.parametrize("is_off", [True, False], ids=["hydratune", "positive control"])
@pytest.mark.parametrize("library", STATISTICS)
def test_libraries_send_no_usage_statistics(monkeypatch, library, is_off):
    """Neither in a command nor in the processes that it starts, which inherit its environment."""
    pytest.importorskip(library)
    ours = ("DO_NOT_TRACK", "TELEMETRY", "USAGE_STATS")
    is_of_ci = ("CI", "PYTEST_CURRENT_TEST", "TF_BUILD", "HF_HUB_OFFLINE")  # in which MLflow never sends any
    kept = {k: v for k, v in os.environ.items() if not any(name in k for name in ours) and k not in is_of_ci}
    monkeypatch.setattr(os, "environ", kept)
    if is_off:
        turn_off_telemetry()
    command = [sys.executable, "-P", "-c", STATISTICS[library]]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == str(not is_off)


def test_user_may_send_usage_statistics(monkeypatch):
    """A variable that is set stays as it is."""
    monkeypatch.setattr(os, "environ", {"RAY_USAGE_STATS_ENABLED": "1"})
    turn_off_telemetry()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


@pytest.mark.parametrize("command", [["--version"], ["-m", "hydra/launcher=ray"]])
def test_each_command_turns_usage_statistics_off(monkeypatch, command):
    """Before it starts anything."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(sys, "argv", ["hydratune", *command])
    seen = []
    monkeypatch.setattr(main, "dispatch", lambda _: seen.append(dict(os.environ)) or 0)
    for name in ("signals.install", "watchdog.start", "guard_output"):
        monkeypatch.setattr(f"hydratune.cli.main.{name}", lambda *_: None)
    with pytest.raises(SystemExit):
        main.main()
    assert seen[0]["RAY_USAGE_STATS_ENABLED"] == "0"
