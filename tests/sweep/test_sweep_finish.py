"""`hydratune sweep finish`: the winner as an experiment that composes to its config, retrained, tested once."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from fake_sweep import DECAY, RATE, SPACE, TWO, add_grid, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.cli.sweep import open_sweep
from hydratune.config import composition
from hydratune.config.composition import Request
from hydratune.config.instantiate import build
from hydratune.sweep.export import experiment, temporary_experiment
from hydratune.sweep.report import results
from hydratune.sweep.report.significance import best_two_trials
from hydratune.sweep.study import Study
from hydratune.tracking.client import connect
from hydratune.utils.errors import ConfigError

GOOD = [fake(0.001, 0, 0.7), fake(0.01, 0.1, 0.9), fake(0.1, 0, 0.4)]


@pytest.fixture
def trained(monkeypatch):
    """What is trained, in the place of training: the arguments and the directory of a run that goes on."""
    calls = []

    def train(arguments, continued=None, **_):
        calls.append((arguments, continued))
        (place,) = [text for text in arguments if text.startswith("hydra.run.dir=")] or [f'="{continued}"']
        directory = Path(place.partition("=")[2].strip('"'))
        (directory / ".hydra").mkdir(parents=True, exist_ok=True)
        typed = [text for text in arguments if "=" in text and not text.startswith("hydra.")]
        (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
        seed = int(re.search(r"seed=(\d+)$", str(directory)).group(1))
        metrics = {
            "eval_accuracy": 0.5 + seed / 100,
            "eval_loss": 0.7,
            "eval_runtime": 1,
            "test_accuracy": 0.4 + seed / 100,
        }
        (directory / "metrics.json").write_text(json.dumps(metrics))
        return 0

    monkeypatch.setattr("hydratune.cli.sweep_finish.train", train)
    return calls


@pytest.fixture
def sweep(toy):
    """Makes a sweep of fake trials and returns its name."""
    return lambda *trials, more=(): fake_study([*toy, *SPACE, *more], *trials).plan.name


def finish(name, *more):
    """Runs the command."""
    return dispatch(["sweep", "finish", name, *more])


def config(overrides, config_dir=None):
    """What a run depends on, without interpolations resolved."""
    request = Request(tuple(overrides), config_dir=config_dir)
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_add(request))
    raw = composition.OmegaConf.to_container(cfg, resolve=False)
    return {key: value for key, value in raw.items() if key not in ("hydra", "sweep")}


# What is typed -> what of it stays the same in all trials, and the last point of the grid.
SWEEPS = {
    "values": ([f"{RATE}=1e-5,3e-5", "trainer.args.num_train_epochs=1"], ["trainer.args.num_train_epochs=1", f"{RATE}=3e-5"]),
    "groups": (["model=minilm,gpt_tiny", "adapter=lora", "adapter.config.r=2"], ["adapter=lora", "adapter.config.r=2", "model=gpt_tiny"]),
    "an experiment": (["experiment=wordnet_regression", "dataset=wordnet_similarity,wordnet_pairs", "task=regression"], ["experiment=wordnet_regression", "task=regression", "dataset=wordnet_pairs"]),
    "experiments": (["experiment=wordnet_pair_classification,wordnet_sequence_classification"], ["experiment=wordnet_sequence_classification"]),
    "seeds": (["seed=1,2"], ["seed=2"]),
    "sweep's own": ([f"{RATE}=1,2", "sweep.max_retries=3", "sweep.seeds=[4,5]", "hydra/launcher=joblib"], [f"{RATE}=2"]),
    "pairs": ([f"{RATE}=1,2", f"{DECAY}=0,0.5", f"sweep.zip=[[{RATE},{DECAY}]]"], [f"{RATE}=2", f"{DECAY}=0.5"]),
    "odd values": (
        ["trainer/callbacks=[early_stopping]", "+trainer.args.lr_scheduler_kwargs={num_cycles: 2}", "name='a ${seed}: b'", "vars={x: [1, null]}", "trainer.args.bf16=true,false"],
        ["trainer/callbacks=[early_stopping]", "+trainer.args.lr_scheduler_kwargs={num_cycles: 2}", "name='a ${seed}: b'", "vars={x: [1, null]}", "trainer.args.bf16=false"],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_composes_to_the_config_of_the_winner(name):
    """The experiment alone is the config that the winner was trained with."""
    typed, last = SWEEPS[name]
    study = fake_study(typed)
    add_grid(study, *range(len(study.plan.space.grid())))
    best = results.ranked(study.plan, results.rows(study.plan, study.trials()))[0]
    made = experiment(study.plan, best, Path("my_conf").absolute())
    with temporary_experiment(made, study.plan):
        pass
    assert config([f"experiment={made.name}"], Path("my_conf").absolute()) == config(last)
    assert "sweep" not in yaml.safe_load(made.text)


@pytest.mark.usefixtures("trained")
def test_is_a_small_diff(sweep):
    """It opens with the command that runs it, then says what was chosen and nothing else."""
    name = sweep(*GOOD, more=["sweep.name=mine"])
    assert finish(name) == 0
    lines = Path("my_conf/experiment/mine_best.yaml").read_text().splitlines()
    assert lines[:3] == [
        "# @package _global_",
        "# hydratune --config-dir my_conf experiment=mine_best",
        "# Trial 1 of the sweep mine: accuracy 0.9000 (selected on validation).",
    ]
    body = yaml.safe_load("\n".join(lines))
    assert set(body) == {"defaults", "dataset", "model", "hardware", "trainer"}
    assert body["trainer"] == {"args": {"learning_rate": 0.01, "num_train_epochs": 2, "weight_decay": 0.1}}


def test_retrains_with_fresh_seeds(sweep, trained, capsys):
    """As many as the sweep has, none of which chose the winner; the end is the mean, its interval, and the best run."""
    name = sweep(*GOOD, more=["sweep.seeds=[1,2,3]"])
    assert finish(name, "tracking.registered_model_name=mine") == 0
    assert [arguments[3:5] for arguments, _ in trained] == [
        [f"seed={seed}", "tracking.registered_model_name=mine"] for seed in (4, 5, 6)
    ]
    out = capsys.readouterr().out
    assert re.search(r"test accuracy +│ 0.4400 │ 0.4500 │ 0.4600 │ 0.4500 │ +0.4252 to 0.4748", out)
    assert re.search(r"validation accuracy +│ 0.5400", out)
    assert "selected on validation, as the best of 3 trials: accuracy 0.9000" in out
    assert "best on validation: seed 6, accuracy 0.5600" in out
    assert f"files    multirun/{name}/best/trial=1/seed=6" in out


def test_one_fresh_seed_and_others(sweep, trained, capsys):
    """Without seeds it is one behind the run's own; --seeds names others, and it is said that one chose the winner."""
    name = sweep(*GOOD, more=["seed=7"])
    finish(name)
    assert "selected this trial" not in capsys.readouterr().out
    finish(name, "--seeds", "7,9")
    assert [arguments[3] for arguments, _ in trained] == ["seed=8", "seed=7", "seed=9"]
    out = capsys.readouterr().out
    assert "seed 7 also selected this trial" in out
    assert "(range of 2 runs)" in out


@pytest.mark.parametrize("override", ["seed=9", "++seed=9"])
def test_seed_among_the_overrides_is_an_error(sweep, override):
    """Directories and tables are named after `--seeds`, so another seed would make them wrong."""
    name = sweep(fake(0.1, 0, 0.5))
    with pytest.raises(ConfigError) as error:
        finish(name, override)
    assert [problem.key for problem in error.value.problems] == ["seed"]


def test_seeds_that_were_swept_are_not_fresh(trained):
    """A sweep over the seed itself was trained with each of its values."""
    study = fake_study(["seed=3,8"])
    add_grid(study, 0.2, 0.1)
    finish(study.plan.name)
    assert [argument for arguments, _ in trained for argument in arguments if argument.startswith("seed=")] == [
        "seed=9"
    ]


def test_seeds_that_are_none():
    """They are an error like any other."""
    for text in ("1,x", "1,1", ""):
        with pytest.raises(ConfigError) as caught:
            finish("any", "--seeds", text)
        (problem,) = caught.value.problems
        assert (problem.key, repr(text) in problem.text) == ("--seeds", True)


def test_again_trains_what_is_left(sweep, trained):
    """What is finished is not trained again, what was cut off goes on in its directory."""
    name = sweep(*GOOD)
    finish(name, "--seeds", "1,2")
    cut_off = Path("multirun", name, "best", "trial=1", "seed=2").absolute()
    (cut_off / "metrics.json").unlink()
    trained.clear()
    assert finish(name, "--seeds", "1,2") == 0
    assert [(arguments[3], continued) for arguments, continued in trained] == [("seed=2", cut_off)]


@pytest.mark.usefixtures("trained")
def test_again_with_other_overrides(sweep):
    """A directory that something else was trained in is not taken for what is asked for now."""
    name = sweep(*GOOD)
    finish(name)
    with pytest.raises(ConfigError) as caught:
        finish(name, "trainer.args.num_train_epochs=9")
    (problem,) = caught.value.problems
    assert (problem.key, f"multirun/{name}/best/trial=1/seed=43" in problem.hint) == ("OVERRIDES", True)


def test_a_failure_fails_alone(sweep, trained, monkeypatch):
    """The other seeds are trained, and the exit code tells."""
    import hydratune.cli.sweep_finish

    train = hydratune.cli.sweep_finish.train
    monkeypatch.setattr("hydratune.cli.sweep_finish.train", lambda a, c=None, **_: 1 if "seed=1" in a else train(a, c))
    assert finish(sweep(*GOOD), "--seeds", "1,2") == 1
    assert [arguments[3] for arguments, _ in trained] == ["seed=2"]


def test_interrupted(sweep, monkeypatch, capsys):
    """Ctrl-C says how to go on, and the exception goes on its way."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hydratune.cli.sweep_finish.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(sweep(*GOOD))
    assert "resume with the same command" in capsys.readouterr().err


def test_one_at_a_time(sweep, trained):
    """Two commands do not train in one directory."""
    study = sweep(*GOOD)
    with (
        FileLock(Path("multirun", study, ".finish.lock")),
        pytest.raises(ConfigError, match="another process"),
    ):
        finish(study)
    assert trained == []


def test_needs_a_trial_that_is_done(sweep):
    """Without one there is no winner, and nothing is written."""
    with pytest.raises(ConfigError) as caught:
        finish(sweep(fake(0.01, 0, state="FAIL")))
    (problem,) = caught.value.problems
    assert (problem.key, "1 failed" in problem.text) == ("NAME", True)
    assert not Path("my_conf").exists()


@pytest.mark.usefixtures("trained")
def test_several_objectives_need_a_choice(sweep):
    """The message names the front; --trial chooses, also one that is not on it, but none that is not done."""
    trials = [fake(0.01, 0, 0.9, 0.5), fake(0.1, 0.1, 0.8, 0.3), fake(0.001, 0, 0.7, 0.6)]
    name = sweep(*trials, more=[TWO])
    with pytest.raises(ConfigError) as caught:
        finish(name)
    assert [(problem.key, problem.hint.partition(": ")[2]) for problem in caught.value.problems] == [
        ("--trial", "0, 1")
    ]
    with pytest.raises(ConfigError) as caught:
        finish(name, "--trial", "7")
    (problem,) = caught.value.problems
    assert (problem.key, "trial 7" in problem.text) == ("--trial", True)
    assert finish(name, "--trial", "2") == 0
    assert "Trial 2 " in Path(f"my_conf/experiment/{name}_best.yaml").read_text()


def test_replaces_nothing_unasked(sweep, trained):
    """Another file of that name stays, unless --force is given."""
    name = sweep(*GOOD)
    path = Path(f"my_conf/experiment/{name}_best.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ConfigError) as caught:
        finish(name)
    (problem,) = caught.value.problems
    assert (problem.key, str(path) in problem.text, "--force" in problem.hint) == ("experiment", True, True)
    assert (path.read_text(), trained) == ("mine", [])
    assert finish(name, "--force") == 0
    assert finish(name) == 0
    assert "learning_rate: 0.01" in path.read_text()


def test_a_error_leaves_nothing(sweep, trained):
    """All errors of the retrainings' overrides come before a file is written or a run begins."""
    with pytest.raises(ConfigError) as caught:
        finish(sweep(*GOOD), "trainer.args.learning_rat=1", "sede=1")
    assert sorted(problem.key for problem in caught.value.problems) == ["sede", "trainer.args.learning_rat"]
    assert not Path("my_conf").exists()
    assert trained == []


@pytest.mark.usefixtures("trained")
def test_what_no_file_can_say(sweep):
    """A key that was taken away is told, and the file is not left behind."""
    with pytest.raises(ConfigError) as caught:
        finish(sweep(*GOOD, more=["~trainer.args.logging_steps"]))
    assert [problem.key for problem in caught.value.problems] == ["experiment"]
    assert "trainer.args.logging_steps" in str(caught.value)
    assert not Path("my_conf").exists()


def test_own_conf_directory(toy, trained, own_directory):
    """A sweep that read configs from a directory gets its experiment there, and no other can be named."""
    own = own_directory / "conf"
    (own / "trainer").mkdir(parents=True)
    (own / "trainer" / "slow.yaml").write_text("defaults: [default]\nargs: {warmup_steps: 3}\n")
    study = fake_study([*toy, *SPACE, "trainer=slow"], *GOOD, config_dir=own)
    assert finish(study.plan.name) == 0
    assert "override /trainer: slow" in (own / "experiment" / f"{study.plan.name}_best.yaml").read_text()
    assert trained[0][0][:2] == ["--config-dir", "conf"]
    with pytest.raises(ConfigError) as caught:
        finish(study.plan.name, "--config-dir", "elsewhere")
    assert [problem.key for problem in caught.value.problems] == ["--config-dir"]


def test_stored_conf_directory_elsewhere_must_be_typed(toy, trained, own_directory):
    """The plan of someone else chooses no directory outside the current one to write to."""
    own = own_directory.parent / "conf"
    own.mkdir()
    study = fake_study([*toy, *SPACE], *GOOD, config_dir=own)
    with pytest.raises(ConfigError) as caught:
        finish(study.plan.name)
    assert [problem.key for problem in caught.value.problems] == ["--config-dir"]
    assert (trained, [*own.iterdir()]) == ([], [])
    assert finish(study.plan.name, "--config-dir", str(own)) == 0


@pytest.mark.slow
def test_from_sweep_to_model(toy, store, own_directory):
    """A real sweep looks at no test data; its winner, retrained, scores the same on validation, and is logged."""
    assert dispatch(["-m", *toy, f"{RATE}=0.002,0.02", "sweep.seeds=[1,2]", "sweep.name=mine"]) == 0
    sweep = own_directory / "multirun" / "mine"
    trials = {
        path.parent.relative_to(sweep): json.loads(path.read_text()) for path in sweep.glob("[01]/*/metrics.json")
    }
    assert len(trials) == 4
    assert not [name for metrics in trials.values() for name in metrics if name.startswith("test")]
    assert (sweep / "report" / "report.html").is_file()

    assert finish("mine", "--seeds", "1,2") == 0
    (best,) = [path.name.partition("=")[2] for path in (sweep / "best").iterdir()]
    for seed in (1, 2):
        metrics = json.loads((sweep / "best" / f"trial={best}" / f"seed={seed}" / "metrics.json").read_text())
        before = trials[Path(best, f"seed={seed}")]
        assert {n: v for n, v in metrics.items() if n in ("eval_loss", "eval_accuracy")} == {
            n: before[n] for n in ("eval_loss", "eval_accuracy")
        }
        assert "test_accuracy" in metrics
    client = connect(store)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    seeds = {tuple(sorted(run.data.params.items())) for run in runs if run.data.params.get("seed") == "1"}
    assert len(seeds) == 2  # the winner, retrained, has the params of its own trial; the other trial has others
    (found,) = [one for one in client.search_experiments() if one.name == Path.cwd().name]
    assert len(client.search_logged_models([found.experiment_id])) == 2

    models = [path.stat().st_mtime_ns for path in sorted(sweep.glob("best/*/*/metrics.json"))]
    assert finish("mine", "--seeds", "1,2") == 0
    assert [path.stat().st_mtime_ns for path in sorted(sweep.glob("best/*/*/metrics.json"))] == models


@pytest.mark.slow
def test_every_sweep_has_learning_curves(toy):
    """Trials report each evaluation also without a pruner."""
    assert dispatch(["-m", *toy, f"{RATE}=0.002,0.02", "sweep.name=mine", "tracking=none"]) == 0
    assert Path("multirun/mine/report/learning_curves.png").is_file()


@pytest.mark.usefixtures("trained")
def test_another_trial_has_an_experiment_of_its_own(sweep):
    """Retraining the second best trial does not replace the experiment of the best one."""
    name = sweep(*GOOD)
    finish(name)
    finish(name, "--trial", "0")
    names = {path.stem: path.read_text() for path in Path("my_conf/experiment").iterdir()}
    assert {*names} == {f"{name}_best", f"{name}_trial_0"}
    assert "Trial 1 " in names[f"{name}_best"]


@pytest.mark.usefixtures("trained")
def test_best_two_trials_are_compared_once(sweep, monkeypatch):
    """The terminal, the report, and the note have the same verdict; a test of large predictions takes a while."""
    calls = []

    def compare(plan, rows):
        calls.append(plan.name)
        return best_two_trials(plan, rows)

    for module in ("cli.sweep_finish", "sweep.report.page", "sweep.report.note"):
        monkeypatch.setattr(f"hydratune.{module}.best_two_trials", compare)
    monkeypatch.setattr("hydratune.cli.notes.checked_pointer", lambda _: {"uri": "sqlite://"})
    monkeypatch.setattr("hydratune.tracking.later.replace_note", lambda *_: None)
    monkeypatch.setattr("hydratune.tracking.later.upload", lambda *_: None)
    assert finish(name := sweep(*GOOD)) == 0
    assert calls == [name]


@pytest.mark.usefixtures("trained")
def test_number_of_a_directory_names_the_retry_in_it(sweep):
    """A retry has another number than the failed trial whose directory it has."""
    name = sweep(fake(0.01, 0, state="FAIL"), fake(0.1, 0, 0.5), fake(0.01, 0, 0.4, folder="0"))
    assert finish(name, "--trial", "0") == 0
    assert "Trial 2 " in Path(f"my_conf/experiment/{name}_trial_2.yaml").read_text()


@pytest.mark.usefixtures("trained")
def test_report_says_whether_the_best_trial_is_better(sweep):
    """Without predictions, it names the trials to retrain; afterwards, it has their test scores."""
    study = fake_study_of(name := sweep(*GOOD))
    finish(name)
    verdict = best_two_trials(study.plan, results.rows(study.plan, study.trials()))
    assert "trial 0" in verdict.sentences[0]
    assert verdict.sentences[1].startswith("Significance not tested: ")
    assert [command.split()[-2:] for command in verdict.commands.values()] == [["--trial", "0"]]
    page = (study.plan.directory / "report" / "report.html").read_text()
    assert "Retrained and tested" in page and verdict.sentences[1] in html.unescape(page)


def test_second_best_has_another_setting_than_the_seed(sweep):
    """The best setting with another seed is no competitor."""
    study = fake_study_of(sweep(*GOOD))
    points = [{"lr": 0.01, "seed": 2}, {"lr": 0.01, "seed": 1}, {"lr": 0.1, "seed": 1}]
    rows = [
        replace(row, point=point) for row, point in zip(results.rows(study.plan, study.trials()), points, strict=True)
    ]
    assert "trial 2" in best_two_trials(study.plan, rows).sentences[0]
    assert best_two_trials(study.plan, rows[:2]).sentences == []


@pytest.mark.parametrize(("scores", "verdict"), [([0.5, 0.52, 0.51], "Significant"), ([0.8, 0.9, 0.7], "Not signif")])
def test_seeds_of_a_sweep_are_compared(sweep, scores, verdict):
    """With three seeds, the best two trials are compared on validation."""
    best = fake(0.01, 0, 0.9, values={"eval_accuracy": [0.9, 0.91, 0.89]})
    second = fake(0.1, 0, sum(scores) / 3, values={"eval_accuracy": scores})
    study = fake_study_of(sweep(best, second, more=["sweep.seeds=[1,2,7]"]))
    found = best_two_trials(study.plan, results.rows(study.plan, study.trials()))
    assert found.sentences[1].startswith(verdict)
    assert "validation" in found.sentences[1]


def fake_study_of(name):
    """The study of a sweep by its name."""
    plan, cfg = open_sweep(name)
    return Study(plan, build(cfg.sweep))


@pytest.mark.usefixtures("trained")
def test_selection_names_how_the_trial_was_selected(sweep, capsys):
    """As the first of the best trials, or by its number."""
    name = sweep(fake(0.01, 0, 0.9), fake(0.1, 0, 0.9), fake(0.001, 0, 0.4))
    lines = []
    for more in ((), ("--trial", "2")):
        finish(name, "-n", *more)
        lines += [line for line in capsys.readouterr().out.splitlines() if line.startswith("selected ")]
    best, other = lines
    assert "the first of 2" in best and "--trial" not in best
    assert "--trial" in other and "best" not in other
