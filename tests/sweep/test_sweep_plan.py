"""What is checked and written down before a sweep begins."""

import sys
from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.config.composition import Request
from hydratune.sweep.config import Sweep
from hydratune.sweep.controller import seed_warning
from hydratune.sweep.plan import label, make_plan
from hydratune.sweep.replicates import Replicate
from hydratune.sweep.stored_plan import read_plan, write_plan
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PLAN

LR, WD = "trainer.args.learning_rate", "trainer.args.weight_decay"


def plan(*overrides):
    """The plan of some overrides."""
    return make_plan(Request(overrides))[0]


@pytest.mark.slow
def test_named_by_what_is_swept():
    """The same command has the same name and directory; another space, config or objective has another."""
    names = [
        plan(f"{LR}=1e-5,3e-5").name,
        plan(f"{LR}=1e-5,1e-4").name,
        plan(f"{LR}=1e-5,3e-5", "seed=7").name,
        plan(f"{LR}=1e-5,3e-5", "objective=eval_loss").name,
        plan(f"{LR}=1e-5,3e-5", "sweep.seeds=[1,2]").name,
        plan(f"{LR}=1e-5,3e-5", "sweep.shuffle_trials=true").name,
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith("wordnet_supersense-minilm-lr-") for name in names)
    assert plan(f"{LR}=1e-5,3e-5").name == names[0]
    assert plan(f"{LR}=1e-5,3e-5").directory == Path("multirun", names[0]).absolute()


@pytest.mark.parametrize("more", ["sweep.workers=4", "sweep.max_retries=3", "tracking=none", "hardware=cpu"])
def test_what_changes_no_name(more):
    """How fast, how patient and where it is recorded makes no other sweep."""
    assert plan(f"{LR}=1e-5,3e-5", more).name == plan(f"{LR}=1e-5,3e-5").name


@pytest.mark.parametrize(
    ("more", "expected"), [(["seed=1,2", f"{LR}=1e-5,3e-5"], True), (["seed=1,2"], False), ([f"{LR}=1e-5,3e-5"], False)]
)
def test_seeds_that_are_trials_are_reported(more, expected):
    """Trials would differ by chance; over seeds alone, that is what the user wants to see."""
    warning = seed_warning(plan(*more))
    assert (warning is not None) == expected
    assert not expected or "sweep.seeds=[1,2]" in warning


def test_shuffled():
    """A grid in a drawn order is the same grid, in the same order at each start and in another by another seed."""
    points = plan(f"{LR}=1,2,3,4,5,6").space.grid()
    orders = [Sweep(shuffle_trials=True, seed=seed).in_order(points) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert all(order != points and sorted(order, key=points.index) == points for order in orders)
    assert Sweep().in_order(points) == points


def test_it_is_read_as_written(tmp_path):
    """A plan on disk is the plan."""
    one = plan(f"{LR}=tag(log,interval(1e-5,1e-3))", "trainer.args.optim=sgd,adamw_torch", "sweep=tpe",
               "sweep.seeds=[1,2]", f"hydra.sweep.dir={tmp_path}/s",
               f"sweep.conditions={{{LR}: 'trainer.args.optim=sgd'}}")  # fmt: skip
    write_plan(one)
    assert read_plan(tmp_path / "s") == one


def test_all_errors_of_all_jobs(own_directory):
    """Every job is checked before the first begins, and nothing is left behind."""
    with pytest.raises(ConfigError) as error:
        dispatch(["-m", f"{LR}=1e-5,x", f"{WD}=-1,0", "modle=bert", "trainer.args.optim=adamw_torch,nonsense"])
    assert [problem.key for problem in error.value.problems] == ["modle", WD, "trainer.args.optim", LR]
    assert list(own_directory.iterdir()) == []


def test_a_error_of_the_sweep_and_one_of_a_job():
    """Both kinds are told together."""
    with pytest.raises(ConfigError) as error:
        plan(f"{LR}=1e-5,3e-5", "sweep.workers=0", "sede=1")
    assert {one.key for one in error.value.problems} == {"sweep.workers", "sede"}


@pytest.mark.parametrize(
    ("overrides", "key", "value", "hint"),
    [
        (["sweep.pruner=ashe"], "sweep.pruner", "'ashe'", "asha"),
        (["sweep.pruner=wilcoxon"], "sweep.pruner", "wilcoxon", "sweep.seeds=[1,2,3,4,5]"),
        (["sweep.pruner=wilcoxon", "sweep.seeds=[1,2,3,4]"], "sweep.seeds", "[1,2,3,4]", "sweep.seeds=[1,2,3,4,5]"),
        (["sweep.pruner=wilcoxon", "sweep.seeds=[1,2,3,4,5]", "sweep.pruner_args={p_threshold: 0.05}"], "sweep.seeds", "[1,2,3,4,5]", "sweep.seeds=[1,2,3,4,5,6]"),
        (["sweep=tpe", "sweep.shuffle_trials=true"], "sweep.shuffle_trials", "true", "leave out sweep.shuffle_trials=true"),
        (["sweep.objectives={eval_acc: maximize}"], "sweep.objectives", "'eval_acc'", "eval_accuracy"),
        (["sweep.objectives={eval_loss: low}"], "sweep.objectives.eval_loss", "maximize or minimize, not 'low'", ""),
        (["sweep.objectives={eval_loss: minimize, eval_f1: maximize}", "sweep.pruner=asha"], "sweep.pruner", "asha", "sweep.pruner=none"),
        (["sweep=tpe", "sweep.n_trials=null"], "sweep.n_trials", "sweep.max_hours", "sweep.n_trials=30"),
        (["sweep.storage=redis://x"], "sweep.storage", "'redis://x'", "sweep.storage=postgresql://HOST/DATABASE"),
        (["sweep.pruner=asha", "sweep.pruner_args={reduction: 3}"], "sweep.pruner_args.reduction", "'reduction'", ": reduction_factor"),
        (["sweep.sampler={_target_: os.system}"], "sweep.sampler._target_", "'os.system'", ""),
        (["sweep.seeds=[1,1]"], "sweep.seeds", "[1,1]", "sweep.seeds=[1]"),
        (["sweep.name=a/b"], "sweep.name", "'a/b'", "sweep.name=my_sweep"),
    ],
)  # fmt: skip
def test_errors_of_options(overrides, key, value, hint):
    """Each option that cannot be is told, with what can."""
    with pytest.raises(ConfigError) as error:
        plan(f"{LR}=1e-5,3e-5", *overrides)
    (problem,) = error.value.problems
    assert problem.key == key
    assert value in problem.message
    assert hint in "; ".join(problem.hints)


@pytest.mark.parametrize("text", ["sweep:\n", "sweep: 3\n", "sweep: []\n"])
def test_plan_of_an_empty_sweep_is_one_error(own_directory, text):
    """An experiment whose node `sweep` has no keys replaces that of the defaults."""
    path = own_directory / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{text}")
    with pytest.raises(ConfigError) as caught:
        dispatch(["-m", "--config-dir", "conf", "experiment=mine", "dataset=digits", f"{LR}=1e-5,3e-5"])
    assert len(caught.value.problems) == 1


def test_errors_of_keys_need_no_heavy_import():
    """What keys and values alone show is reported before torch and transformers are imported."""
    heavy = {name for name in ("torch", "transformers", "mlflow", "optuna") if name in sys.modules}
    with pytest.raises(ConfigError):
        dispatch(["-m", f"{LR}=1e-5,3e-5", "sede=1", "--dry-run"])
    assert {name for name in ("torch", "transformers", "mlflow", "optuna") if name in sys.modules} == heavy


def test_dry_run_reports_fewer_points_than_trials(toy, capsys):
    """A grid of two points has two trials, even if ten are requested."""
    arguments = ["-m", *toy, f"{LR}=1e-5,3e-5", "--dry-run"]
    assert dispatch([*arguments, "sweep.n_trials=10"]) == 0
    assert "sweep.n_trials (10)" in capsys.readouterr().out
    assert dispatch([*arguments, "sweep.n_trials=2"]) == 0
    assert "sweep.n_trials" not in capsys.readouterr().out


def test_dry(toy, capsys, own_directory):
    """`--dry-run` shows the jobs and writes nothing."""
    before = sorted(own_directory.iterdir())
    assert dispatch(["-m", *toy, f"{LR}=1e-5,3e-5", f"{WD}=0,0.1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 trials" in out
    assert "3e-05" in out
    assert sorted(own_directory.iterdir()) == before


def test_no_secret_on_disk(tmp_path, monkeypatch):
    """A storage's password stays in the environment."""
    monkeypatch.setenv("STORAGE", "postgresql://me:hunter22@127.0.0.1/x")
    monkeypatch.setenv("HYDRATUNE_SERVERS", "postgresql://127.0.0.1")
    one = plan(f"{LR}=1e-5,3e-5", "sweep.storage=${oc.env:STORAGE}", f"hydra.sweep.dir={tmp_path}/s")
    write_plan(one)
    assert "hunter22" not in (tmp_path / "s" / PLAN).read_text()
    with pytest.raises(ConfigError) as caught:
        plan(f"{LR}=1e-5,3e-5", "sweep.storage=postgresql://me:hunter22@127.0.0.1/x")
    assert [problem.key for problem in caught.value.problems] == ["sweep.storage"]


def test_a_sweeps_run_is_not_resumed_alone(toy, tmp_path):
    """`hydratune resume` of a trial says whose it is."""
    write_plan(plan(*toy, "seed=1,2", f"hydra.sweep.dir={tmp_path}/s"))
    (tmp_path / "s/0").mkdir()
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", f"{tmp_path}/s/0"])
    (problem,) = caught.value.problems
    assert (problem.key, "is a trial of a sweep" in problem.text) == ("RUN", True)


def test_labels():
    """A run's name says what was chosen."""
    assert label({LR: 3e-5, "model": "bert", WD: 0.1}, Replicate(2)) == "lr=3e-05 model=bert wd=0.1 seed=2"


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm", "ray"])
def test_launchers_compose(name, capsys):
    """Each launcher's config is in order."""
    pytest.importorskip(f"hydra_plugins.hydra_{name.partition('_')[0]}_launcher")
    assert dispatch(["-m", "seed=1,2", f"hydra/launcher={name}", "sweep.workers=2", "--dry-run"]) == 0
    assert "2 trials" in capsys.readouterr().out


def test_write_plan_leaves_a_directory_of_the_user(own_directory):
    """Trials would replace directories there."""
    (own_directory / "mine").mkdir()
    plan, _ = make_plan(Request(("dataset=digits", "hydra.sweep.dir=mine", "seed=1,2")))
    write_plan(plan)  # it is empty
    (own_directory / "mine" / PLAN).rename(own_directory / "mine" / "notes.txt")
    with pytest.raises(ConfigError) as caught:
        write_plan(plan)
    assert [problem.key for problem in caught.value.problems] == ["hydra.sweep.dir"]
    assert [path.name for path in (own_directory / "mine").iterdir()] == ["notes.txt"]
