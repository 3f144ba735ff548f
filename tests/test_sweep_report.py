"""A sweep's report: a table, a page that needs no network, and pictures, of whatever trials there are."""

import csv
import re
import warnings

import optuna
import pytest
from matplotlib import pyplot
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hydratune.build import build
from hydratune.composition import Request
from hydratune.sweep import plots, report
from hydratune.sweep.plan import make_plan
from hydratune.sweep.study import Study

RATE, DECAY = "trainer.args.learning_rate", "trainer.args.weight_decay"
SPACE = [f"{RATE}=tag(log,interval(1e-4,1e-1))", f"{DECAY}=0,0.1", "sweep=tpe", "sweep.n_trials=8"]
SPREAD = {RATE: FloatDistribution(1e-4, 1e-1, log=True), DECAY: CategoricalDistribution([0, 0.1])}
TWO = "sweep.objectives={eval_accuracy: maximize, eval_loss: minimize}"


@pytest.fixture
def sweep(toy):
    """Makes the study of a sweep of fake trials."""

    def make(*trials, more=(), space=SPACE):
        plan, cfg = make_plan(Request((*toy, *space, *more)))
        plan.directory.mkdir(parents=True)
        study = Study(plan, build(cfg.sweep))
        study.study.add_trials(list(trials))
        return study

    return make


def fake(rate, decay, *values, state="COMPLETE", said=(), **attrs):
    """A trial that nobody trained."""
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        values=list(values) or None,
        params={RATE: rate, DECAY: decay},
        distributions=SPREAD,
        intermediate_values=dict(enumerate(said, start=1)),
        user_attrs=attrs,
    )


def written(study):
    """The report's files: name -> path."""
    return {path.name: path for path in report.write(study)}


def rows(files):
    """Those of its table."""
    with files["trials.csv"].open(newline="") as file:
        return list(csv.DictReader(file))


GOOD = [fake(0.001, 0, 0.7, said=(0.5, 0.7)), fake(0.01, 0.1, 0.9, said=(0.6, 0.9)), fake(0.1, 0, 0.4, said=(0.4,))]
CUT = fake(0.05, 0, state="PRUNED", said=(0.3,))
BAD = fake(0.05, 0.1, state="FAIL", error="ValueError: a <b>bad</b>, one", folder="4", seconds=2.5)


def test_all_pictures(sweep):
    """A sweep of one objective has a page and four pictures."""
    files = written(sweep(*GOOD, CUT, BAD))
    names = ("learning_curves", "optimization_history", "parallel_coordinates", "parameter_importances")
    assert sorted(files) == [*(f"{name}.png" for name in names), "report.html", "trials.csv"]
    assert all(files[f"{name}.png"].read_bytes().startswith(b"\x89PNG") for name in names)
    assert files["report.html"].read_text().count("Plotly.newPlot(") == 4
    assert "not drawn" not in files["report.html"].read_text()


def test_the_page_needs_no_network(sweep):
    """It loads nothing, and has plotly's code once."""
    page = written(sweep(*GOOD))["report.html"].read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert len(re.findall(r"plotly\.js v\d", page)) == 1


def test_the_page_begins_with_the_ranked_table(sweep):
    """Summary and table come before the pictures, the best trial first, and text is no markup."""
    page = written(sweep(*GOOD, CUT, BAD))["report.html"].read_text()
    begin = page.partition("<script")[0]
    assert "5 of 8 trials, 1 pruned, 1 failed, best accuracy 0.9000 (trial 1)" in begin
    assert begin.index(" 0.9000") < begin.index(" 0.7000") < begin.index(" 0.4000")
    assert "a &lt;b&gt;bad&lt;/b&gt;, one" in begin
    assert "<b>bad" not in page


def test_the_table(sweep):
    """Each trial is a line with its state, its point, its value and what went wrong."""
    first, *_, cut, bad = rows(written(sweep(*GOOD, CUT, BAD)))
    assert (first["number"], first["state"], first[RATE], first[DECAY]) == ("0", "done", "0.001", "0.0")
    assert (first["eval_accuracy"], first["folder"], first["error"]) == ("0.7", "0", "")
    assert (cut["state"], cut["eval_accuracy"]) == ("pruned", "")
    assert (bad["state"], bad["error"], bad["seconds"]) == ("failed", "ValueError: a <b>bad</b>, one", "2.5")


def test_seeds(sweep):
    """The table has the value with each seed, their mean and Student's interval, also before all seeds are done."""
    full = fake(0.01, 0, 0.8, values={"eval_accuracy": [0.7, 0.8, 0.9]})
    half = fake(0.1, 0, state="PRUNED", values={"eval_accuracy": [0.1, 0.3]})
    files = written(sweep(full, half, more=["sweep.seeds=[1,2,7]"]))
    one, other = rows(files)
    assert [one[f"eval_accuracy seed={seed}"] for seed in (1, 2, 7)] == ["0.7", "0.8", "0.9"]
    half_width = 4.302653 * 0.1 / 3**0.5  # Student's t of 2 degrees of freedom
    assert float(one["eval_accuracy mean"]) == pytest.approx(0.8)
    assert float(one["eval_accuracy low"]) == pytest.approx(0.8 - half_width)
    assert float(one["eval_accuracy high"]) == pytest.approx(0.8 + half_width)
    assert (other["eval_accuracy seed=2"], other["eval_accuracy seed=7"]) == ("0.3", "")
    assert float(other["eval_accuracy mean"]) == pytest.approx(0.2)


def test_pruned_curves_are_dotted(sweep):
    """Curves of pruned trials are told from the others, on the page and in the picture."""
    study = sweep(*GOOD, CUT)
    (curves,) = [one for one in plots.of(study.plan, study.trials()) if one.name == "learning_curves"]
    page = curves.draw(optuna.visualization)
    assert {trace.name: trace.line.dash for trace in page.data}["Trial3"] == "dot"
    assert {trace.line.dash for trace in page.data if trace.name != "Trial3"} == {None}
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        picture = curves.draw(optuna.visualization.matplotlib)
    assert [line.get_label() for line in picture.lines if line.get_linestyle() == ":"] == ["Trial3"]
    pyplot.close(picture.figure)


@pytest.mark.parametrize(
    ("trials", "missing"),
    [
        ([], 4),
        ([fake(0.01, 0, 0.5)], 3),
        ([fake(0.01, 0, 0.5), fake(0.1, 0.1, 0.5)], 2),
        ([BAD, CUT], 3),
    ],
    ids=["none", "one", "alike", "no success"],
)
def test_what_cannot_be_drawn_is_said(sweep, trials, missing):
    """Too few or too equal trials leave pictures out, with the reason in the page."""
    files = written(sweep(*trials))
    assert files["report.html"].read_text().count("not drawn, since ") == missing
    assert len(files) == 2 + 4 - missing


def test_a_picture_that_fails_stops_nothing(sweep, monkeypatch, caplog):
    """The others are drawn, and the page and the log say why one is not."""

    def broken(*_, **__):
        raise RuntimeError("no paint")

    for module in (optuna.visualization, optuna.visualization.matplotlib):
        monkeypatch.setattr(module, "plot_optimization_history", broken)
    files = written(sweep(*GOOD))
    assert "not drawn, since no paint." in files["report.html"].read_text()
    assert "no optimization_history.png: no paint" in caplog.text
    assert "optimization_history.png" not in files
    assert "parallel_coordinates.png" in files


def test_two_objectives(sweep):
    """There is a front, and the other pictures once an objective."""
    trials = [fake(0.01, 0, 0.9, 0.5), fake(0.1, 0.1, 0.8, 0.3), fake(0.001, 0, 0.7, 0.6)]
    files = written(sweep(*trials, more=[TWO]))
    ours = ("optimization_history", "parallel_coordinates", "parameter_importances")
    each = [f"{name}_{objective}.png" for name in ours for objective in ("accuracy", "loss")]
    assert set(files) == {"pareto_front.png", *each, "report.html", "trials.csv"}


def test_conditional_parameters(sweep):
    """Trials that lack a parameter are drawn by those that all have."""
    space = [f"{RATE}=0.001,0.01", "adapter=none,lora", "adapter.config.r=2,4"]
    lora = "sweep.conditions={adapter.config.r: 'adapter=lora'}"
    study = sweep(space=[*space, lora])
    study.study.add_trials([_of(study, point, 0.1 * i) for i, point in enumerate(study.plan.space.grid())])
    files = written(study)
    assert "parallel_coordinates.png" in files
    assert "parameter_importances.png" in files
    assert rows(files)[0]["adapter.config.r"] == ""


def _of(study, point, value):
    """A finished trial at a point of a grid."""
    spread = {p.name: CategoricalDistribution(p.labels) for p in study.plan.space.parameters if p.name in point}
    return optuna.trial.create_trial(value=value, params=point, distributions=spread)


def test_nothing_is_left_open(sweep):
    """No figure stays in memory, and matplotlib's style is as before."""
    before = pyplot.rcParams["axes.facecolor"]
    written(sweep(*GOOD))
    assert pyplot.get_fignums() == []
    assert pyplot.rcParams["axes.facecolor"] == before
