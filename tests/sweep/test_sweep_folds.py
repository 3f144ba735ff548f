"""Sweeps with folds: each configuration is trained on all of them, and predicts each row once."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from conftest import toy_rows
from hydratune.config.composition import Request
from hydratune.sweep.callbacks import EarlierRuns, PruningCallback
from hydratune.sweep.plan import make_plan
from hydratune.sweep.replicates import Replicate, replicates
from hydratune.tracking.client import connect
from hydratune.utils.errors import ConfigError
from hydratune.utils.stats import mean_interval

LR = "trainer.args.learning_rate"


def lines(path):
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def problem_keys(*overrides):
    """The keys of the errors of a sweep's plan."""
    with pytest.raises(ConfigError) as caught:
        make_plan(Request(overrides))
    return [problem.key for problem in caught.value.problems]


def test_sweep_trains_each_fold(sweep):
    """The value of a trial is the mean over folds, and each row has one out-of-fold prediction in one file."""
    code, done = sweep(f"{LR}=0.01,0.02", "cv.folds=3", "objective=eval_accuracy")
    assert code == 0
    rows = [*toy_rows()["train"], *toy_rows()["validation"]]
    for trial in done:
        folders = [Path(f"s/{trial.number}/fold={fold}") for fold in range(3)]
        scores = [json.loads((folder / "metrics.json").read_text())["eval_accuracy"] for folder in folders]
        assert trial.user_attrs["values"] == {"eval_accuracy": scores}
        assert trial.value == pytest.approx(np.mean(scores))
        predicted = lines(f"s/{trial.number}/out_of_fold.jsonl")
        places = [(row["split"], row["row"]) for row in predicted]
        assert places == [*(("train", i) for i in range(32)), *(("validation", i) for i in range(24))]
        assert [(row["text"], row["label"]) for row in predicted] == [(row["text"], row["label"]) for row in rows]
        for fold, score in enumerate(scores):  # the predictions are those of the best checkpoint
            part = [row for row in predicted if row["fold"] == fold]
            assert accuracy_score([row["label"] for row in part], [row["prediction"] for row in part]) == score
        assert not [*Path("s").rglob("model.safetensors")]


def test_sweep_resumes_folds(sweep):
    """Finished folds are not trained again, and the out-of-fold predictions are the same."""
    same = ["cv.folds=2", "cv.repeats=2", "trainer.args.max_steps=1", "sweep.seeds=[1,2]"]
    _, done = sweep(*same)
    assert len(done) == 1
    runs = sorted(path.parent.name for path in Path("s/0").glob("*/metrics.json"))
    assert runs == sorted(f"seed={s}_repeat={r}_fold={f}" for s in (1, 2) for r in (0, 1) for f in (0, 1))
    before = Path("s/0/out_of_fold.jsonl").read_text()
    assert len(before.splitlines()) == 4 * 56
    times = {path: path.stat().st_mtime_ns for path in Path("s/0").glob("*/metrics.json")}
    code, again = sweep(*same)
    assert (code, len(again)) == (0, 1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert Path("s/0/out_of_fold.jsonl").read_text() == before


def test_replicates_cross_seeds_repetitions_and_folds():
    """Folds vary fastest; numbers that the config decides are left out."""
    assert replicates([], None, 1) == (Replicate(),)
    assert replicates([3], None, 1) == (Replicate(3),)
    found = [replicate.folder for replicate in replicates([3, 4], 2, 1)]
    assert found == ["seed=3_fold=0", "seed=3_fold=1", "seed=4_fold=0", "seed=4_fold=1"]
    assert Replicate(None, 1, 0).overrides() == ["++cv.repeat=1", "++cv.fold=0"]


def test_plan_needs_no_parameter_with_folds():
    """A cross-validation of a single configuration is a sweep of one trial."""
    plan, _ = make_plan(Request(("cv.folds=5",)))
    assert (plan.space.grid(), len(plan.replicates)) == ([{}], 5)


def test_plan_keeps_one_fold_that_is_set():
    """A sweep on one fold trains each configuration once."""
    plan, _ = make_plan(Request((f"{LR}=1e-5,1e-4", "cv.folds=5", "cv.fold=2")))
    assert plan.replicates == (Replicate(),)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["cv.folds=5", "cv.fold=0,1"], "cv.fold"),
        (["cv.folds=3,5"], "cv.folds"),
        (["cv.folds=1", f"{LR}=1,2"], "cv.folds"),
        (["cv.folds=5", "sweep=tpe", "sweep.n_trials=3"], "-m"),
        (["cv.folds=4", f"{LR}=1,2", "sweep.pruner=wilcoxon"], "sweep.pruner"),
    ],
)
def test_plan_refuses_folds(overrides, key):
    """Keys that the sweep sets cannot be swept, and a sampler needs a space."""
    assert key in problem_keys(*overrides)


@pytest.mark.parametrize(
    "overrides", [["cv.folds=5"], ["cv.folds=3", "sweep.seeds=[1,2]"], ["cv.folds=3", "cv.repeats=2"]]
)
def test_plan_prunes_with_wilcoxon_over_folds(overrides):
    """Folds count as seeds do."""
    plan, _ = make_plan(Request((*overrides, f"{LR}=1,2", "sweep.pruner=wilcoxon")))
    assert len(plan.replicates) >= 5


def test_mean_interval_counts_the_overlap_of_folds():
    """The interval is that of the corrected resampled t-test of Nadeau and Bengio."""
    values = [0.8, 0.7, 0.9, 0.75, 0.85]
    interval = mean_interval(values, overlap=1 / 4)
    half = 2.7764451051977987 * np.std(values, ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    assert (interval.low, interval.high) == pytest.approx((0.8 - half, 0.8 + half))


def reported(callback, history):
    """The values and steps that a callback reports over the evaluations of a run of two steps each."""
    state = SimpleNamespace(log_history=[], global_step=0, max_steps=2 * len(history), is_world_process_zero=True)
    for value in history:
        state.global_step += 2
        state.log_history.append({"eval_loss": value})
        callback.on_evaluate(None, state, SimpleNamespace(should_training_stop=False), metrics={"eval_loss": value})


@pytest.mark.parametrize(("is_last", "asked"), [(True, 1), (False, 2)])
def test_pruning_callback_reports_the_mean_over_runs(is_last, asked):
    """A later run continues the steps of earlier ones, and a run before the last may also be pruned at its end."""
    trial = FakeTrial()
    reported(PruningCallback(trial, "eval_loss", EarlierRuns([1.0, 3.0], 7), is_last), [5.0, 2.0])
    assert trial.reports == [(3.0, 8), (2.0, 9)]
    assert trial.asked == asked


class FakeTrial:
    """A trial that records what is reported to it."""

    def __init__(self):
        self.reports, self.asked = [], 0

    def report(self, value, step):
        """Record a value."""
        self.reports.append((value, step))

    def should_prune(self):
        """Count the question, and never prune."""
        self.asked += 1
        return False


def test_asha_prunes_with_seeds_and_folds(sweep):
    """A worse configuration ends before its last run, by the mean over runs after the same number of evaluations."""
    asha = ["sweep.pruner=asha", "sweep.pruner_args={min_resource: 3, reduction_factor: 2}"]
    runs = ["cv.folds=2", "sweep.seeds=[1,2]", "trainer.args.num_train_epochs=2", "objective=eval_loss"]
    _, done = sweep(f"{LR}=0.005,10", *asha, *runs)
    assert [trial.state.name for trial in done] == ["COMPLETE", "PRUNED"]
    best, worse = done
    means = [np.mean(best.user_attrs["values"]["eval_loss"][: i + 1]) for i in range(4)]
    assert best.value == pytest.approx(means[-1])
    assert sorted(best.intermediate_values) == [*range(1, 9)]
    assert max(worse.intermediate_values) == 3
    assert len(worse.user_attrs["values"]["eval_loss"]) == 1
    assert sorted(path.name for path in Path("s/1").glob("seed=*")) == ["seed=1_fold=0", "seed=1_fold=1"]


def test_sweep_records_out_of_fold_predictions_in_mlflow(sweep, store):
    """The run of the sweep has those of the best trial, and the run of each fold has its own."""
    sweep("cv.folds=2", "trainer.args.max_steps=1")
    client = connect(store)
    parent = json.loads(Path("s/mlflow.json").read_text())["run_id"]
    files = client.list_artifacts(parent, "out_of_fold/trial=0")
    assert [file.path for file in files] == ["out_of_fold/trial=0/out_of_fold.jsonl"]
    assert files[0].file_size == Path("s/0/out_of_fold.jsonl").stat().st_size
    for fold in range(2):
        run_id = json.loads(Path(f"s/0/fold={fold}/mlflow.json").read_text())["run_id"]
        assert "out_of_fold.jsonl" in {file.path for file in client.list_artifacts(run_id)}
        assert client.get_run(run_id).info.run_name == f"default fold={fold}"
