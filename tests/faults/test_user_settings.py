"""Settings that only the user may choose: no option, no experiment, and no sweep of someone else does it for them."""

import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from fake_sweep import add_grid, fake_study
from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config.composition import Request, composer
from hydratune.sweep.plan import checked_job, make_plan
from hydratune.sweep.stored_plan import read_plan, write_plan
from hydratune.utils.errors import ConfigError

# Key -> the group with that key, and what a file sets in it.
EVIL = {
    "trainer.args.push_to_hub": ("trainer", {"args": {"push_to_hub": True, "hub_model_id": "evil/x"}}),
    "trainer.args.report_to": ("trainer", {"args": {"report_to": "wandb"}}),
    "hardware.launch.rdzv_endpoint": (
        "hardware",
        {"launch": {"nnodes": 2, "node_rank": 1, "rdzv_endpoint": "evil.example:6379"}},
    ),
    "tracking.uri": ("tracking", {"uri": "sqlite:////elsewhere/x.db"}),
    "tracking.registered_model_name": ("tracking", {"registered_model_name": "champions"}),
}
ALSO = {"trainer.args.push_to_hub": {"trainer.args.hub_model_id"}}  # in the same file, and errors too
DEFAULTS = {"trainer": "default", "hardware": "ddp", "tracking": "mlflow"}


@pytest.fixture
def option(own_directory):
    """Writes an option of a group that inherits from a shipped one."""

    def write(group, content, inherited):
        path = own_directory / "mine" / group / "evil.yaml"
        path.parent.mkdir(parents=True)
        header = "# @package _global_\n" if group == "experiment" else ""
        path.write_text(header + yaml.safe_dump({"defaults": inherited, **content}))
        return own_directory / "mine"

    return write


def errors(check, *arguments):
    """Keys of the errors of a check, none twice."""
    try:
        check(*arguments)
    except ConfigError as error:
        return {problem.key for problem in error.problems}
    return set()


def check_run(request):
    """Check the config of a run as the command line does."""
    with composer(request):
        checked(request)


@pytest.mark.parametrize("key", EVIL)
@pytest.mark.parametrize("is_typed", [False, True])
def test_choice_of_an_option_chooses_no_setting_of_the_user(option, key, is_typed):
    """Its file may be someone else's; what is typed is the user's."""
    group, content = EVIL[key]
    folder = option(group, content, [DEFAULTS[group]])
    keys, config = {key, *ALSO.get(key, ())}, OmegaConf.create({group: content})
    typed = [f"{name}={json.dumps(OmegaConf.select(config, name))}" for name in keys] if is_typed else []
    request = Request(("dataset=digits", f"{group}=evil", *typed), config_dir=folder)
    assert errors(check_run, request) == (set() if is_typed else keys)


@pytest.mark.parametrize("key", EVIL)
def test_sweep_of_a_file_chooses_no_setting_of_the_user(option, key):
    """Every trial is checked as a run is."""
    group, content = EVIL[key]
    inherited = [{"override /dataset": "digits"}, {f"override /{group}": DEFAULTS[group]}]
    folder = option("experiment", {group: content, "sweep": {"params": {"seed": "choice(1, 2)"}}}, inherited)
    assert errors(make_plan, Request(("experiment=evil",), config_dir=folder)) == {key, *ALSO.get(key, ())}


COMBINED = {
    "vars": {"uris": {"k1_8": "sqlite:////elsewhere/x.db"}},
    "tracking": {"uri": "${oc.select:vars.uris.k${seed}_${dataset.max_samples.test},'sqlite:///outputs/x.db'}"},
}


@pytest.mark.parametrize("values", ["choice(7, 8)", "choice(7, 9)"])
def test_each_trial_of_a_grid_is_checked(option, values):
    """Not only those that contain each value once."""
    params = {"seed": "choice(1, 2)", "dataset.max_samples.test": values}
    inherited = [{"override /dataset": "digits"}, {"override /tracking": "mlflow"}]
    folder = option("experiment", {**COMBINED, "sweep": {"params": params}}, inherited)
    keys = errors(make_plan, Request(("experiment=evil",), config_dir=folder))
    assert keys == ({"tracking.uri"} if "8" in values else set())


@pytest.mark.parametrize("is_typed", [False, True])
def test_trial_between_the_checked_ones_is_checked_by_its_worker(option, is_typed):
    """Its plan knows what the user typed."""
    uris = {"k5": "sqlite:////elsewhere/x.db"}
    tracking = {"uri": "${oc.select:vars.uris.k${seed},'sqlite:///outputs/x.db'}"}
    content = {"vars": {"uris": uris}, "tracking": tracking, "sweep": {"params": {"seed": "int(interval(1, 9))"}}}
    inherited = [{"override /dataset": "digits"}, {"override /sweep": "random"}, {"override /tracking": "mlflow"}]
    folder = option("experiment", content, inherited)
    typed = ["tracking.uri=sqlite:////elsewhere/x.db"] if is_typed else []
    plan, _ = make_plan(Request(("experiment=evil", *typed), config_dir=folder))
    write_plan(plan)
    plan = read_plan(plan.directory)
    with composer(plan.request):
        for seed in (4, 5):
            keys = errors(checked_job, plan, [*plan.overrides, f"seed={seed}"])
            assert keys == ({"tracking.uri"} if seed == 5 and not is_typed else set())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hydra/launcher", "ray"),
        ("hydra.launcher.ray.init.address", "'ray://evil.example:1'"),
        ("sweep.storage", "sqlite:///multirun/x.db"),
        ("++sweep.name", "x"),
        ("+hydra.callbacks.x", "choice(1, 2)"),
    ],
)
def test_parameter_of_a_sweep_is_no_setting_of_the_sweep(option, key, value):
    """It would belong to the sweep, not to its trials, and nothing would have checked it."""
    params = {"seed": "choice(1, 2)", key: value}
    folder = option("experiment", {"sweep": {"params": params}}, [{"override /dataset": "digits"}])
    assert "sweep.params" in errors(make_plan, Request(("experiment=evil",), config_dir=folder))


@pytest.mark.parametrize(("is_own", "is_typed"), [(False, False), (False, True), (True, False)])
def test_finish_reads_no_file_elsewhere(toy_files, own_directory, tmp_path, monkeypatch, is_own, is_typed):
    """Of someone else's sweep, whose trials name it as a parameter; the user may type it."""
    monkeypatch.setattr("hydratune.cli.sweep_finish.train", lambda *_, **__: 0)
    private = tmp_path / "private.jsonl"
    private.write_text((own_directory / "test.jsonl").read_text())
    study = fake_study([*toy_files, f"dataset.files.test=test.jsonl,{private}", "hydra.sweep.dir=multirun/x"])
    add_grid(study, 0.1, 0.9)
    if not is_own:
        path = Path("multirun/x/sweep.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "cwd": "/nonexistent"}))
    typed = [f"dataset.files.test={private}"] if is_typed else []
    keys = errors(dispatch, ["sweep", "finish", "multirun/x", "--seeds", "1", *typed])
    assert keys == (set() if is_own or is_typed else {"dataset.files.test"})
    assert Path("my_conf").exists() == (not keys)
