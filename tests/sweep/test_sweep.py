"""`hydratune -m`: what is asked for is trained once, kept, gone on with, and told."""

import json
import math
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from joblib import Parallel, delayed

from conftest import study
from hydratune.cli.main import dispatch
from hydratune.config.instantiate import build
from hydratune.evaluation.compare.runs import Run
from hydratune.evaluation.compare.verdict import differing
from hydratune.sweep import controller, isolated, trial
from hydratune.sweep.stored_plan import read_plan
from hydratune.sweep.study import ChangedDataError, Study
from hydratune.tracking.client import connect
from hydratune.utils.errors import SAVED, ConfigError

LR, WD = "trainer.args.learning_rate", "trainer.args.weight_decay"


def told(trials):
    """State, point and values of trials."""
    return [(one.state.name, one.params, one.values) for one in trials]


TWO = [f"{LR}=0.01,0.02", "sweep.name=two"]


@pytest.fixture
def swept(sweep, own_directory, tmp_path_factory):
    """Return the trials of the sweep `TWO`, which is trained for the first of the tests that use it."""
    folder = tmp_path_factory.getbasetemp() / "swept"
    if folder.is_dir():
        shutil.copytree(folder / "s", "s")
        plan = json.loads(Path("s/sweep.json").read_text())
        Path("s/sweep.json").write_text(json.dumps({**plan, "cwd": str(own_directory)}))
        return study().trials
    code, trials = sweep(*TWO)
    assert code == 0
    shutil.copytree("s", folder / "s")
    return trials


def test_a_grid(sweep):
    """Exactly the combinations of the values, each once, in the order of the basic sweeper."""
    code, done = sweep(f"{LR}=0.01,0.02", f"{WD}=0,0.1")
    assert code == 0
    assert [tuple(one.params.values()) for one in done] == [(0.01, 0), (0.01, 0.1), (0.02, 0), (0.02, 0.1)]
    assert {one.state.name for one in done} == {"COMPLETE"}
    assert sorted(path.name for path in Path("s").glob("[0-9]*")) == ["0", "1", "2", "3"]


@pytest.mark.usefixtures("swept")
def test_no_test_data():
    """A sweep looks at validation alone, and leaves scores and no weights."""
    metrics = json.loads(Path("s/0/metrics.json").read_text())
    assert "eval_accuracy" in metrics
    assert not [name for name in metrics if name.startswith("test")]
    assert not list(Path("s").rglob("*.safetensors"))
    assert not list(Path("s").rglob("predictions.jsonl"))
    names = {path.name for path in Path("s/0").iterdir()}
    assert names >= {"config.yaml", "overrides.yaml", "hydratune.log"}
    assert ".hydra" not in names  # it would hold the same once more


def test_again_does_nothing(swept, sweep, capsys):
    """The same command on a finished sweep prints its table and trains nothing."""
    before = {path: path.stat().st_mtime_ns for path in Path("s").glob("[0-9]*/*")}
    capsys.readouterr()
    code, second = sweep(*TWO)
    assert code == 0
    assert told(swept) == told(second)
    assert before == {path: path.stat().st_mtime_ns for path in Path("s").glob("[0-9]*/*")}
    assert "2 of 2 trials" in capsys.readouterr().out


@pytest.mark.usefixtures("swept")
def test_left_checkpoints(sweep):
    """Those of a finished trial, whose worker was killed before it could remove them, go with the same command."""
    left = Path("s/1/checkpoints/checkpoint-1/model.safetensors")
    left.parent.mkdir(parents=True)
    left.touch()
    sweep(*TWO)
    assert not list(Path("s").glob("*/checkpoints"))


def test_more_trials(sweep):
    """The total counts what is done: a larger budget adds the rest."""
    space = [f"{LR}=interval(0.001,0.02)", "sweep=random", "sweep.name=more"]
    _, first = sweep(*space, "sweep.n_trials=1")
    _, second = sweep(*space, "sweep.n_trials=3")
    assert len(second) == 3
    assert told(second)[:1] == told(first)


@pytest.mark.parametrize("change", [f"{LR}=0.01,0.03", "trainer.args.num_train_epochs=3", "objective=eval_loss"])
@pytest.mark.usefixtures("swept")
def test_another_sweep_of_the_same_name(sweep, change):
    """A changed space, config or objective under one name is refused, with the difference."""
    with pytest.raises(ConfigError) as error:
        sweep(*TWO, change)
    key = change.partition("=")[0]
    assert ("sweep.space" if key == LR else key) in str(error.value)
    assert "the sweep 'two'" in str(error.value)
    assert len(study().trials) == 2


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("content", [None, b""], ids=["removed", "emptied"])
def test_study_that_was_lost_takes_no_results_of_old_trials(sweep, content):
    """New trials would find the files of old ones, which can have other parameters or rows."""
    before = {path: path.read_bytes() for path in Path("s").glob("[0-9]*/*.json")}
    Path("s/study.db").unlink()
    if content is not None:
        Path("s/study.db").write_bytes(content)
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            sweep(*TWO)
        assert [problem.key for problem in caught.value.problems] == ["sweep"]
    assert not study().trials
    assert {path: path.read_bytes() for path in Path("s").glob("[0-9]*/*.json")} == before


def test_a_failure_fails_alone(sweep, capsys):
    """One trial fails, twice; the others are done; summary and log have the traceback, the code is 1."""
    code, done = sweep(f"{LR}=0.01,1e38", "trainer.args.num_train_epochs=4")
    assert code == 1
    assert [one.state.name for one in done] == ["COMPLETE", "FAIL"]
    assert done[1].user_attrs["failures"] == 2
    out = capsys.readouterr().out
    assert "sweep.max_retries=2" in out
    assert done[1].user_attrs["error"][:40] in " ".join(out.split())
    assert "Traceback" in out
    assert "its log is in s/1" in out
    assert "Traceback" in Path("s/1/hydratune.log").read_text()


def test_no_progress(sweep, monkeypatch, capsys):
    """Workers that end again and again without a trial end the sweep, with a word and no traceback."""
    monkeypatch.setattr(controller, "launch_workers", lambda *_: None)
    code, done = sweep(f"{LR}=0.01,0.02")
    assert (code, done) == (1, [])
    assert "error: workers ended 3 times without a trial; see " in capsys.readouterr().err


def test_preempted_workers_make_progress(sweep, monkeypatch):
    """Workers that signals end, however often, do not end the sweep: their trials are neither done nor failed."""
    launch, preempted = controller.launch_workers, []

    def preempting(cfg, *rest):
        if len(preempted) == 5:
            return launch(cfg, *rest)
        study = Study(read_plan(Path("s")), build(cfg.sweep))
        study.release(study.claim(), is_interrupted=True)
        return preempted.append(1)

    monkeypatch.setattr(controller, "launch_workers", preempting)
    code, done = sweep(f"{LR}=0.01,0.02", "sweep.max_retries=0", "trainer.args.max_steps=1")
    assert code == 0
    assert [one.state.name for one in done] == ["COMPLETE", "COMPLETE"]
    assert [one.user_attrs.get("interruptions", 0) for one in done] == [5, 0]
    assert not any(one.user_attrs.get("failures") for one in done)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Hydra's log, which ends with the process
@pytest.mark.usefixtures("handled_signals")
def test_single_joblib_worker_keeps_the_exit_code_of_the_sweep(sweep, monkeypatch):
    """Joblib runs it in the process of the sweep, which handles signals as without joblib."""
    monkeypatch.setattr(trial, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        sweep("hydra/launcher=joblib", f"{LR}=0.01,0.02")
    assert end.value.code == SAVED


def test_launch_by_joblib_leaves_no_process():
    """Later workers get new processes, which no request to end has reached, and a sweep that ends waits for none."""
    launcher = SimpleNamespace(launch=lambda jobs, **_: Parallel(n_jobs=2)(delayed(os.getpid)() for _ in jobs))
    workers = controller.launch_by_joblib(launcher, [[], []], 0)
    assert not any(psutil.pid_exists(pid) for pid in workers)


@pytest.mark.usefixtures("handled_signals")
def test_isolated_trial_may_write_much_to_stderr_as_it_ends(own_directory, monkeypatch):
    """Nobody reads it any more, and more than a pipe holds must not keep the process from ending."""
    program = own_directory / "python"
    program.write_text(
        "#!/bin/bash\n"
        "trap 'head --bytes=1000000 /dev/zero >&2; touch ended; exit' TERM\n"
        f"sleep 0.3; kill -INT {os.getpid()}\n"
        "while :; do sleep 0.05; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(isolated.sys, "executable", str(program))
    plan = SimpleNamespace(directory=own_directory)
    with pytest.raises(KeyboardInterrupt):
        isolated.start(SimpleNamespace(plan=plan), SimpleNamespace(trial=SimpleNamespace(_trial_id=0)), 0)
    assert Path("ended").exists()


class FakeStudy:
    """A study whose end a test decides."""

    def __init__(self, workers):
        self.options, self.plan = SimpleNamespace(workers=workers), SimpleNamespace(directory="s")
        self.has_ended = False

    def is_done(self):
        return self.has_ended

    def has_work(self):
        return not self.has_ended

    def trials(self):
        return []


def test_sweep_starts_no_workers_for_a_study_that_has_ended(monkeypatch):
    """Those in the queue of a cluster have trained the last trials while the parent waited for a place."""
    study = FakeStudy(workers=2)
    monkeypatch.setattr(controller.time, "sleep", lambda _: setattr(study, "has_ended", True))
    starts = []
    controller.start_until_done(study, lambda *start: starts.append(start), lambda: 2 - study.has_ended)
    assert starts == []


def test_sweep_replaces_workers_while_others_train():
    """Workers that fail on a broken node do not end the sweep, as long as others may be training a long trial."""
    study, starts = FakeStudy(workers=2), []

    def launch(count, first):
        starts.append((count, first))
        study.has_ended = len(starts) == 5
        return False

    controller.start_until_done(study, launch, lambda: 1)
    assert starts == [(1, number) for number in range(5)]


def test_sweep_ends_if_no_worker_makes_progress():
    """Workers that all end three times without a trial have a fault that the next ones would have too."""
    starts = []
    with pytest.raises(controller.NoProgressError):
        controller.start_until_done(FakeStudy(workers=2), lambda *start: bool(starts.append(start)), lambda: 0)
    assert starts == [(2, 0), (2, 2), (2, 4)]


def test_failed_trials_again(sweep, monkeypatch):
    """More retries try a failed configuration again, in its own directory; what is done stays as it is."""
    whole = trial.run

    def broken(cfg, job):
        if cfg.trainer.args.learning_rate == 0.02:
            raise OSError("the disk is away")
        return whole(cfg, job)

    monkeypatch.setattr(trial, "run", broken)
    code, first = sweep(f"{LR}=0.01,0.02", "sweep.max_retries=0")
    assert (code, [one.state.name for one in first]) == (1, ["COMPLETE", "FAIL"])
    monkeypatch.setattr(trial, "run", whole)
    code, second = sweep(f"{LR}=0.01,0.02", "sweep.max_retries=1")
    assert (code, [one.state.name for one in second]) == (0, ["COMPLETE", "FAIL", "COMPLETE"])
    assert told(second)[:2] == told(first)
    assert sorted(path.name for path in Path("s").glob("[0-9]*")) == ["0", "1"]


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "cmaes", "gp"])
def test_cma_es(sweep, name):
    """Each way of searching trains its budget inside the space, and never draws a point twice."""
    space = [f"{LR}=tag(log,interval(1e-4,1e-2))", f"{WD}=interval(0,0.1)"]
    code, done = sweep(*space, f"sweep={name}", "sweep.n_trials=2", "trainer.args.max_steps=1")
    assert code == 0
    points = [tuple(one.params.values()) for one in done]
    assert len(set(points)) == 2
    assert all(1e-4 <= rate <= 1e-2 and 0 <= decay <= 0.1 for rate, decay in points)


def test_a_search_is_repeatable(sweep):
    """Trials depend on `sweep.seed` and on what was found, not on when the sweep was cut."""
    space = [f"{LR}=tag(log,interval(1e-4,1e-2))", "sweep=tpe", "trainer.args.max_steps=1"]
    _, whole = sweep(*space, "sweep.n_trials=3", "sweep.name=whole", "hydra.sweep.dir=whole")
    for count in (1, 2, 3):
        _, cut = sweep(*space, f"sweep.n_trials={count}", "sweep.name=cut")
    assert told(cut) == told(whole)
    _, other = sweep(*space, "sweep.n_trials=1", "sweep.seed=1", "sweep.name=other", "hydra.sweep.dir=other")
    assert other[0].params != whole[0].params


def test_pairs(sweep):
    """Keys that move together are taken side by side."""
    _, done = sweep(f"{LR}=0.01,0.02", f"{WD}=0,0.1", f"sweep.zip=[[{LR},{WD}]]", "trainer.args.max_steps=1")
    assert [one.params for one in done] == [{f"{LR}+{WD}": "0.01, 0"}, {f"{LR}+{WD}": "0.02, 0.1"}]
    typed = (Path("s/1/overrides.yaml")).read_text()
    assert f"{LR}=0.02" in typed
    assert f"{WD}=0.1" in typed


def test_conditions(sweep):
    """A key that counts only beside a value of another is left alone elsewhere."""
    lora = "'adapter=lora'"
    keys = ["adapter=none,lora", "adapter.config.r=2,4", "adapter.config.target_modules=choice([query])"]
    on = f"sweep.conditions={{adapter.config.r: {lora}, adapter.config.target_modules: {lora}}}"
    _, done = sweep(*keys, on, "trainer.args.max_steps=1")
    assert [one.params.get("adapter.config.r") for one in done] == [None, 2, 4]
    assert [one.params["adapter"] for one in done] == ["none", "lora", "lora"]


def test_seeds(sweep, capsys):
    """Every configuration is trained once a seed; its value is the mean; the table has each, and the interval."""
    code, done = sweep(f"{LR}=0.01,0.02", "sweep.seeds=[1,2]", "objective=eval_loss")
    assert code == 0
    assert study().direction.name == "MINIMIZE"
    shown = capsys.readouterr().out
    for one in done:
        losses = [json.loads(Path(f"s/{one.number}/seed={s}/metrics.json").read_text())["eval_loss"] for s in (1, 2)]
        assert losses[0] != losses[1]
        assert one.user_attrs["values"] == {"eval_loss": losses}
        assert one.value == pytest.approx(sum(losses) / 2)
        assert " ".join(f"{loss:.4f}" for loss in losses) in shown
        assert re.search(rf"{one.value:.4f}.*\d to ", shown)


def test_wilcoxon(sweep):
    """A configuration that is worse with every seed ends before its last one."""
    seeds = ["sweep.seeds=[1,2,3,4,5,6]", "sweep.pruner=wilcoxon", "sweep.pruner_args={p_threshold: 0.2}"]
    _, done = sweep(f"{LR}=0.02,0", *seeds, "objective=eval_loss", "trainer.args.num_train_epochs=3")
    assert [one.state.name for one in done] == ["COMPLETE", "PRUNED"]
    assert len(done[1].intermediate_values) < 6


def test_pruning(sweep, store):
    """A trial that falls behind ends early: PRUNED in the study, and in MLflow."""
    epochs = ["trainer.args.num_train_epochs=6", "sweep.pruner=asha", "sweep.pruner_args={reduction_factor: 2}"]
    _, done = sweep(f"{LR}=0.02,0", *epochs, "objective=eval_loss", "model.dropout=0")
    assert [one.state.name for one in done] == ["COMPLETE", "PRUNED"]
    assert len(done[1].intermediate_values) < 6
    client = connect(store)
    run = client.get_run(json.loads(Path("s/1/mlflow.json").read_text())["run_id"])
    assert run.data.tags["hydratune.state"] == "PRUNED"
    assert not Path("s/1/checkpoints").exists()


def test_several_objectives(sweep, capsys):
    """A Pareto front: what no other trial beats in everything."""
    both = "sweep.objectives={eval_loss: minimize, train_runtime: minimize}"
    code, done = sweep(f"{LR}=0.01,0.02", both)
    assert code == 0
    assert [direction.name for direction in study().directions] == ["MINIMIZE", "MINIMIZE"]
    assert capsys.readouterr().out.count(" best ") == len(study().best_trials) + 1  # the summary names one too
    assert len(done) == 2


def test_hours(sweep):
    """No trial begins once the hours are spent."""
    code, done = sweep(f"{LR}=interval(0.001,0.02)", "sweep=random", "sweep.n_trials=null", "sweep.max_hours=1e-6")
    assert (code, len(done)) == (0, 1)


def test_a_space_in_a_file(sweep):
    """`sweep.params` holds a space; the command line wins over it."""
    file = ["sweep.params={trainer.args.weight_decay: '0,0.1', seed: '1,2'}", "seed=7"]
    _, done = sweep(*file, "trainer.args.max_steps=1")
    assert [one.params for one in done] == [{WD: 0}, {WD: 0.1}]


def test_in_mlflow(sweep, store):
    """One parent with the best and the counts, its trials nested below it under readable names."""
    code, _ = sweep(f"{LR}=0.01,0.02", f"{WD}=0,0.1", "objective=eval_loss", "trainer.args.max_steps=1")
    assert code == 0
    client = connect(store)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if run is not parent} == {parent.info.run_id}
    names = {run.info.run_name for run in runs if run is not parent}
    assert names == {f"lr={rate} wd={decay}" for rate in (0.01, 0.02) for decay in (0, 0.1)}
    best = study().best_trial
    assert parent.data.metrics["trials/best_loss"] == best.value
    assert parent.data.metrics["trials/done"] == 4
    assert "best/loss" not in parent.data.metrics  # or MLflow would rank the sweep among its trials
    assert "trials/failed" not in parent.data.metrics
    assert {run.data.tags["sweep"] for run in runs if run is not parent} == {parent.info.run_name}
    assert "sweep finish" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["best.lr"] == str(best.params[LR])
    assert {run.info.status for run in runs} == {"FINISHED"}
    params = [set(run.data.params) for run in runs if run is not parent]
    assert all(one == params[0] for one in params)


def test_trial_records_the_logarithm_for_charts(sweep, store):
    """MLflow has it beside the value that was drawn; `compare` does not."""
    space = [f"{LR}=tag(log,interval(0.001,0.1))", "sweep=random", "sweep.n_trials=2"]
    sweep(*space, "trainer.args.max_steps=1")
    client = connect(store)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    for run in trials:
        drawn = float(run.data.params["learning_rate"])
        assert float(run.data.params["log10_learning_rate"]) == pytest.approx(math.log10(drawn), abs=1e-5)
    assert differing([Run(str(i), run, client) for i, run in enumerate(trials)]) == ["learning_rate"]


def test_a_failed_trial_in_mlflow(sweep, store):
    """The parent of a sweep with a failure is FAILED, and says which."""
    code, _ = sweep(f"{LR}=0.01,1e38", "trainer.args.num_train_epochs=4", "sweep.max_retries=0")
    assert code == 1
    parent = connect(store).get_run(json.loads(Path("s/mlflow.json").read_text())["run_id"])
    assert parent.info.status == "FAILED"
    assert parent.data.tags["error"].startswith("TrialsFailedError: 1 of 2 trials failed")


def test_nothing_leaks(sweep, own_directory):
    """A sweep leaves the environment, the directory and the threads of its process as they were."""
    before = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR",)}
    sweep("hardware.precision=bf16,fp32", "trainer.args.max_steps=1")
    after = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR",)}
    assert {k: v for k, v in after.items() if before.get(k) != v and not k.startswith(("HYDRA", "HF_", "MLFLOW"))} == {}
    assert Path.cwd() == own_directory


def test_changed_rows(sweep, own_directory):
    """A sweep does not go on with other data under the same names: one message, and no trial has failed."""
    sweep(f"{LR}=interval(0.01,0.02)", "sweep=random", "sweep.n_trials=1")
    rows = (own_directory / "validation.jsonl").read_text().splitlines(keepends=True)
    (own_directory / "validation.jsonl").write_text("".join(rows[:-1]))
    with pytest.raises(ConfigError) as caught:
        sweep(f"{LR}=interval(0.01,0.02)", "sweep=random", "sweep.n_trials=2")
    (problem,) = caught.value.problems
    assert problem.key == "dataset"
    assert [name for name in ("train", "validation", "test") if name in problem.message] == ["validation"]
    assert [one.state.name for one in study().trials] == ["COMPLETE", "RUNNING"]
    (own_directory / "validation.jsonl").write_text("".join(rows))
    _, done = sweep(f"{LR}=interval(0.01,0.02)", "sweep=random", "sweep.n_trials=2")
    assert [one.state.name for one in done] == ["COMPLETE", "COMPLETE"]


@pytest.mark.usefixtures("swept")
def test_finish_refuses_rows_that_the_sweep_has_not_seen(own_directory):
    """The winner is not retrained on other data under the same names; the same rows are no obstacle."""
    path = own_directory / "validation.jsonl"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[:-1]))
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "finish", "s"])
    assert [one.key for one in caught.value.problems] == ["dataset"]
    assert not [*Path("s/best").rglob("metrics.json")]
    path.write_text("".join(rows))
    assert dispatch(["sweep", "finish", "s"]) == 0
    assert len([*Path("s/best").rglob("metrics.json")]) == 1


def test_a_storage_that_does_not_answer(sweep, own_directory):
    """One message, and nothing is left behind."""
    before = set(own_directory.iterdir())
    with pytest.raises(ConfigError) as caught:
        sweep(f"{LR}=0.01,0.02", "sweep.storage=postgresql://127.0.0.1:9/none", "hydra.sweep.dir=a/b")
    assert [problem.key for problem in caught.value.problems] == ["sweep.storage"]
    assert "postgresql://127.0.0.1:9/none" in str(caught.value)
    assert set(own_directory.iterdir()) - before <= {own_directory / "outputs"}


def test_a_late_error_costs_no_trial(sweep, own_directory, monkeypatch):
    """Rows that change while a sweep begins end it; what is done stays."""
    whole = trial.run

    def changing(cfg, job):
        result = whole(cfg, job)
        monkeypatch.setattr(Study, "check_rows", lambda *_: (_ for _ in ()).throw(ChangedDataError()))
        return result

    monkeypatch.setattr(trial, "run", changing)
    with pytest.raises(ConfigError):
        sweep(f"{LR}=0.01,0.02")
    assert (own_directory / "s/0/metrics.json").is_file()
    assert [one.state.name for one in study().trials] == ["COMPLETE", "RUNNING"]
