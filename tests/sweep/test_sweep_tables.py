"""What a user sees of a sweep, and what its processes tell each other."""

import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from hydratune.config.composition import Request
from hydratune.sweep import worker
from hydratune.sweep.config import Sweep
from hydratune.sweep.plan import make_plan
from hydratune.sweep.replicates import Replicate
from hydratune.sweep.report import results, tables
from hydratune.sweep.study import ERROR, FAILURES, OWNER, PROGRESS, SECONDS, Study
from hydratune.sweep.trial import TrialResult
from hydratune.training.warm_cache import WarmCache
from hydratune.utils import process, signals
from hydratune.utils.console import plain_console
from processes import LONG

LR = "trainer.args.learning_rate"


@pytest.fixture
def study(tmp_path):
    """The study of a sweep of five rates, of which none is tried."""
    plan, cfg = make_plan(Request((f"{LR}=1,2,3,4,5", f"hydra.sweep.dir={tmp_path}/s")))
    plan.directory.mkdir()
    return Study(plan, Sweep(max_retries=cfg.sweep.max_retries))


def drawn(table):
    """A table as text."""
    out = io.StringIO()
    plain_console(file=out, width=200).print(table)
    return out.getvalue()


def tried(study):
    """Five trials: done, done, failed, pruned, running."""
    claims = [study.claim() for _ in range(5)]
    for claim in claims:
        study.note(claim, SECONDS, 10)
    study.finish(claims[0], [0.5], {})
    study.finish(claims[1], [0.75], {})
    for again in range(2):
        study.note(claims[2], OWNER, {**process.tags(), "worker": study.me})
        study.fail(claims[2], f"OSError: {again}")
    claims[3].trial.report(0.25, 1)
    study.finish(claims[3], None, {})
    study.note(claims[4], PROGRESS, 0.5)
    return results.rows(study.plan, study.trials())


def test_the_live_table(study):
    """What runs and how far, the best first, how many are where, and the time that is left."""
    text = drawn(tables.live(study.plan, tried(study), 5, 1))
    lines = [line for line in text.splitlines() if "│" in line]
    assert [line.split("│")[1].strip() for line in lines] == ["4", "1", "0", "3", "2"]
    assert "50%" in lines[0]
    told = "4 of 5 trials, 1 running, 1 pruned, 1 failed, best accuracy 0.7500 (trial 1), about 0:00:05 left"
    assert told in " ".join(text.split())


def test_the_final_table(study):
    """The best is named; a pruned trial shows its last value; a failed one its error."""
    text = drawn(tables.final(study.plan, tried(study)))
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    assert "best" in rows["1"]
    assert "(0.2500)" in rows["3"]
    assert "OSError: 1" in rows["2"]


@pytest.mark.parametrize(
    "values", [("[]", "[embeddings]"), ("'[/INST] '", "'[bold]'", "''"), ("'<b>'", "'$a$b'", "'{}'")]
)
def test_tables_show_values_literally(values, tmp_path):
    """A value that rich would read as markup is shown in the plan and in the results."""
    key = "model.freeze" if values[0] == "[]" else "vars.x"
    plan, _ = make_plan(Request((f"{key}={','.join(values)}", f"hydra.sweep.dir={tmp_path}/s")))
    points = plan.space.grid()
    rows = [results.TrialRow(i, "", p, results.DONE, (0.5,), {}, 0, 0, "", "", "", None) for i, p in enumerate(points)]
    for table in (tables.plan_table(plan, points), tables.final(plan, rows), tables.live(plan, rows, 3, 1)):
        cells = [line.split("│")[2].strip() for line in drawn(table).splitlines() if "│" in line]
        assert [cell.strip("'").strip() for cell in cells] == [value.strip("'").strip() for value in values]
        assert all(cells)


def test_a_front():
    """With several objectives, all that no other beats are best."""
    plan, _ = make_plan(Request((f"{LR}=1,2,3", "sweep.objectives={eval_loss: minimize, eval_f1: maximize}")))
    values = [(1.0, 0.5), (2.0, 0.9), (3.0, 0.4)]
    rows = [results.TrialRow(i, "", {}, results.DONE, v, {}, 0, 0, "", "", "", None) for i, v in enumerate(values)]
    assert [row.number for row in results.pareto_front(plan, rows)] == [0, 1]


def test_trials_of_a_shuffled_grid(study):
    """Each point is tried once, in the order that the options give."""
    study.options = Sweep(shuffle_trials=True)
    points = study.plan.space.grid()
    tried_points = [study.claim().point for _ in points]
    assert tried_points == study.options.in_order(points) != points
    assert study.claim() is None


def test_a_dead_workers_trial_is_taken_over(study):
    """A trial whose process is gone is the next one, under its own number, ahead of new ones."""
    first = study.claim()
    study.note(first, OWNER, {**process.tags(), process.PROCESS: "1 1", "worker": "x"})
    again = study.claim()
    assert (again.trial.number, again.point) == (first.trial.number, first.point)
    assert study.claim().trial.number == 1


def test_what_was_taken_over_is_not_told_twice(study):
    """A worker that was thought to be gone cannot tell what another has taken over."""
    first = study.claim()
    study.note(first, OWNER, {**process.tags(), "worker": "another"})
    study.finish(first, [0.5], {})
    assert study.trials()[0].state.name == "RUNNING"


def test_cut_between_asking_and_owning(study):
    """A trial that was made by a process that died at once is not lost."""
    study.study.enqueue_trial({LR: 1}, user_attrs={"index": 0})
    assert study.claim().trial.number == 0
    study.study.enqueue_trial({LR: 2}, user_attrs={"index": 1})
    study.study.ask()
    assert [study.claim().point[LR] for _ in range(4)] == [2, 3, 4, 5]
    assert study.claim() is None


def test_a_trial_of_a_grid_is_whole(study, monkeypatch):
    """It comes with its point and its owner, by one commit, or not at all."""
    for name in ("set_trial_param", "set_trial_user_attr", "set_trial_state_values", "record_heartbeat"):
        monkeypatch.setattr(type(study.storage), name, None)
    assert study.claim().point == {LR: 1}
    assert not process.is_gone(study.trials()[0].user_attrs[OWNER])


def test_a_failed_trial_waits_for_the_others(study):
    """What failed is tried again when nothing else is left."""
    first = study.claim()
    study.fail(first, "x")
    assert [study.claim().trial.number for _ in range(5)] == [1, 2, 3, 4, 0]


def test_checkpoints_of_a_pruned_trial(study, monkeypatch):
    """Are removed once the study knows, and stay where another worker has taken it over and goes on from them."""
    monkeypatch.setattr(worker, "one_run", lambda *_: TrialResult(pruned=True))
    monkeypatch.setattr(
        worker, "remove_later", lambda folder, _: removed.append((folder, study.trials()[0].state.name))
    )
    removed, claim = [], study.claim()
    (claim.run_directory(Replicate()) / "checkpoints").mkdir(parents=True)
    study.note(claim, OWNER, {**process.tags(), "worker": "another"})
    worker.train_configuration(study, claim, WarmCache())
    assert not removed
    study.note(claim, OWNER, {**process.tags(), "worker": study.me})
    worker.train_configuration(study, claim, WarmCache())
    assert removed == [(claim.run_directory(Replicate()) / "checkpoints", "PRUNED")]


def test_no_number_is_no_value(study):
    """An objective that is not a number is a failure."""
    claim = study.claim()
    study.finish(claim, [float("nan")], {})
    assert study.trials()[0].user_attrs[FAILURES] == 1
    assert "nan" in study.trials()[0].user_attrs[ERROR]


def test_ends_with_its_parent(monkeypatch):
    """A worker whose parent is gone ends at the next step."""
    monkeypatch.setattr(signals, "parents", [])
    signals.exit_with_parent(os.getppid())
    signals.raise_pending()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    signals.exit_with_parent(gone.pid)
    with pytest.raises(SystemExit):
        signals.raise_pending()


PRUNED_TOGETHER = """
import json, os, sys, types
import torch.distributed as dist
from hydratune.sweep.callbacks import PruningCallback
from hydratune.utils.errors import PrunedError
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)

class Trial:
    def report(self, value, step): self.said = (value, step)
    def should_prune(self): return self.said == (0.25, 1)

prune = PruningCallback(Trial() if rank == 0 else None, "eval_f1")
state = types.SimpleNamespace(log_history=[{"eval_f1": 0.25}], is_world_process_zero=rank == 0, global_step=7,
                              max_steps=9)
control = types.SimpleNamespace(should_training_stop=False)
prune.on_evaluate(None, state, control, metrics={"eval_f1": 0.25})
try:
    prune.on_train_end(None, state, control)
    raised = False
except PrunedError:
    raised = True
print(json.dumps([control.should_training_stop, raised]))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_all_processes_of_a_run_are_pruned_together(tmp_path):
    """The first process asks the study; every one stops by its answer, and raises after the training."""
    meet = str(tmp_path / "meet")
    both = [
        subprocess.Popen([sys.executable, "-c", PRUNED_TOGETHER, str(rank), meet], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [json.loads(one.communicate(timeout=LONG)[0].splitlines()[-1]) for one in both]
    assert said == [[True, True], [True, True]]


@pytest.mark.parametrize(("step", "pruned"), [(7, True), (9, False)])
def test_a_training_that_is_over_is_not_pruned(study, step, pruned):
    """A pruner ends what falls behind, but no trial whose last step is done: its value counts."""
    from hydratune.sweep.callbacks import PruningCallback

    study.study.pruner = optuna.pruners.ThresholdPruner(lower=0.5)
    claim = study.claim()
    prune, control = PruningCallback(claim.trial, "eval_accuracy"), SimpleNamespace(should_training_stop=False)
    now = {"log_history": [{"eval_accuracy": 0.25}], "is_world_process_zero": True, "global_step": step, "max_steps": 9}
    prune.on_evaluate(None, SimpleNamespace(**now), control, metrics={"eval_accuracy": 0.25})
    assert control.should_training_stop == pruned
    assert claim.trial.storage.get_trial(claim.trial._trial_id).intermediate_values == {1: 0.25}


def test_the_storage_comes_back(study, monkeypatch):
    """A storage that does not answer for a while is tried again, and loses nothing."""
    import sqlalchemy

    from hydratune.sweep import storage as module

    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    tries = iter([True, True, False])

    def call():
        if next(tries):
            raise sqlalchemy.exc.OperationalError("select", {}, Exception("the server went away"))
        return study.claim()

    assert module.retry(call).trial.number == 0


def test_a_claim_that_breaks_off(study, monkeypatch):
    """A storage that goes away while a trial is claimed costs none, and begins none twice; nor does one at its end."""
    import sqlalchemy

    from hydratune.sweep import storage

    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    backend, calls = study.study._storage._backend, itertools.count()
    names = ("set_trial_user_attr", "set_trial_state_values", "_set_trial_param", "record_heartbeat")

    def breaking(call):
        def answer(*args, **kwargs):
            done = call(*args, **kwargs)
            if next(calls) % 3 == 0:  # it was done, but the answer is lost
                raise sqlalchemy.exc.OperationalError("select", {}, Exception("the server went away"))
            return done

        return answer

    for name in names:
        monkeypatch.setattr(backend, name, breaking(getattr(backend, name)))
    points = []
    while claim := study.claim():
        points.append(claim.point)
        study.finish(claim, [0.5], {"loss": 1.0})
    assert points == study.plan.space.grid()
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE"] * len(points)


def test_what_will_not_pass_is_not_waited_for():
    """Rights that are missing end a call at once."""
    import sqlalchemy

    from hydratune.sweep.storage import retry

    def call():
        raise sqlalchemy.exc.ProgrammingError("select", {}, Exception("permission denied for table studies"))

    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        retry(call)


def test_the_studys_name_is_in_its_file(study):
    """The default storage is a database that optuna's own tools open."""
    (summary,) = optuna.get_all_study_summaries(f"sqlite:///{Path(study.plan.directory)}/study.db")
    assert summary.study_name == study.plan.name
