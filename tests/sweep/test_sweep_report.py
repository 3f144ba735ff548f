"""A sweep's report: a table, a page that needs no network, and pictures, of whatever trials there are."""

import csv
import importlib
import re
import shlex
import statistics
import warnings
from pathlib import Path

import optuna
import pytest
from matplotlib import pyplot
from optuna.distributions import CategoricalDistribution

from fake_sweep import DECAY, RATE, SPACE, TWO, add_grid, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.sweep.report import page, plots, results
from hydratune.sweep.report.importances import importances
from hydratune.sweep.report.note import best_command
from hydratune.sweep.report.page_plots import make_page_plots
from hydratune.utils.errors import ConfigError


@pytest.fixture
def sweep(toy):
    """Makes the study of a sweep of fake trials."""
    return lambda *trials, more=(): fake_study([*toy, *SPACE, *more], *trials)


def written(study):
    """The report's files: name -> path."""
    return {path.name: path for path in page.write(study)}


def rows(files):
    """Those of its table."""
    with files["trials.csv"].open(newline="") as file:
        return list(csv.DictReader(file))


GOOD = [fake(0.001, 0, 0.7, said=(0.5, 0.7)), fake(0.01, 0.1, 0.9, said=(0.6, 0.9)), fake(0.1, 0, 0.4, said=(0.4,))]
MANY = [fake(10 ** -(1 + i / 4), i % 2 / 10, 0.5 + i / 20, said=(0.3, 0.5 + i / 20)) for i in range(11)]
CUT = fake(0.05, 0, state="PRUNED", said=(0.3,))
BAD = fake(0.05, 0.1, state="FAIL", error="ValueError: a <b>bad</b>, one", folder="4", seconds=2.5)


def test_all_pictures(sweep):
    """A sweep of one objective has a page with seven plots, four of which are image files too."""
    files = written(sweep(*MANY, CUT, BAD))
    names = ("learning_curves", "optimization_history", "parallel_coordinates", "parameter_importances")
    assert sorted(files) == [*(f"{name}.png" for name in names), "report.html", "trials.csv"]
    assert all(files[f"{name}.png"].read_bytes().startswith(b"\x89PNG") for name in names)
    assert files["report.html"].read_text().count('class="plot"') == 7
    assert "not drawn" not in files["report.html"].read_text()


def test_importances_need_ten_trials(sweep):
    """From ten completed trials on, each parameter has its importance within a range."""
    study = sweep(*MANY[:9])

    def missing():
        drawn = plots.make_plots(study.plan, study.trials())
        return {plot.name: plot.missing for plot in drawn}["parameter_importances"]

    assert "10" in missing()
    study.study.add_trials(MANY[9:10])
    assert missing() == ""
    found = importances(plots.Copies(study.plan, study.trials()).plain, None)
    assert sum(one.value for one in found.values()) == pytest.approx(1)
    assert all(one.low <= one.value <= one.high for one in found.values())


def test_history_shows_pruned_trials(sweep):
    """Their last values are gray, at the numbers of the trials."""
    page = picture(sweep(*GOOD, CUT), "optimization_history", optuna.visualization)
    (pruned,) = [trace for trace in page.data if trace.name == "pruned"]
    assert (pruned.x, pruned.y) == ((3,), (0.3,))


def test_seeds_have_a_range(sweep):
    """Each trial has a mark at its mean, with the range over its seeds."""
    study = sweep(fake(0.01, 0, 0.8, values={"eval_accuracy": [0.7, 0.8, 0.9]}), more=["sweep.seeds=[1,2,7]"])
    drawn = {
        one.name: one for one in make_page_plots(study.plan, study.trials(), results.rows(study.plan, study.trials()))
    }
    (marks,) = drawn["seeds"].draw(optuna.visualization).data
    assert (marks.y[0], marks.error_y.array[0], marks.error_y.arrayminus[0]) == pytest.approx((0.8, 0.1, 0.1))


def test_the_page_links_the_trials(sweep):
    """A click leads to the files of a trial, and headers sort by numbers."""
    html = written(sweep(*GOOD, BAD))["report.html"].read_text()
    assert 'href="./../4/"' in html
    assert 'data-value="0.9"' in html
    assert html.count('class="sortable') > 5


def picture(study, name, module=None):
    """A figure of plotly, or the axes of matplotlib."""
    module = module or optuna.visualization.matplotlib
    (plot,) = [one for one in plots.make_plots(study.plan, study.trials()) if one.name == name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plot.draw(module)


def test_legend_of_learning_curves_has_the_colors_of_the_lines(sweep):
    """It names the best trials, best first, each with the color of its own line."""
    many = [fake(0.001 * (i + 1), 0, i / 10, said=(i / 20, i / 10)) for i in range(9)]
    axes = picture(sweep(*many, CUT), "learning_curves")
    lines = {line.get_label(): line.get_color() for line in axes.lines}
    legend = axes.get_legend()
    named = {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert [*named] == [f"Trial{i}" for i in (8, 7, 6, 5, 4)]
    assert all(lines[label] == color for label, color in named.items())
    assert len({*named.values()}) == 5
    pyplot.close("all")


def test_importances_have_one_title(sweep):
    """That of optuna, which is aligned to the left, is gone."""
    axes = picture(sweep(*MANY), "parameter_importances")
    assert axes.get_title() and not axes.get_title(loc="left") and not axes.get_title(loc="right")
    pyplot.close("all")


def test_parallel_coordinates_show_every_trial(sweep):
    """Pruned trials are there with their last value, and no line is white on a white page."""
    study = sweep(*GOOD, CUT)
    page = picture(study, "parallel_coordinates", optuna.visualization)
    drawn = [trace for trace in page.data if trace.mode == "lines"]
    assert sorted(float(trace.customdata[0][1]) for trace in drawn) == [0.3, 0.4, 0.7, 0.9]
    colors = [re.findall(r"\d+", trace.line.color) for trace in drawn]
    assert len({*map(tuple, colors)}) == 4
    assert all(min(map(int, color)) < 150 for color in colors)
    axes = picture(study, "parallel_coordinates")
    (lines,) = axes.figure.axes[0].collections
    lines.update_scalarmappable()
    assert len(lines.get_segments()) == 4
    assert all(min(color[:3]) < 0.6 for color in lines.get_colors())
    pyplot.close("all")


def test_the_page_needs_no_network(sweep):
    """It loads nothing, and has plotly's code once."""
    html = written(sweep(*GOOD))["report.html"].read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", html)
    assert html.count('id="plotly"') == 1


def test_the_page_begins_with_the_ranked_table(sweep):
    """Summary and table come before the pictures, the best trial first, and text is no markup."""
    html = written(sweep(*GOOD, CUT, BAD))["report.html"].read_text()
    begin = html.partition("<script")[0]
    assert "5 of 8 trials, 1 pruned, 1 failed, best accuracy 0.9000 (trial 1)" in begin
    assert begin.index(">0.9000<") < begin.index(">0.7000<") < begin.index(">0.4000<")
    assert "a &lt;b&gt;bad&lt;/b&gt;, one" in begin.replace("<wbr>", "")
    assert "<b>bad" not in html


def test_the_page_escapes_the_name_of_the_sweep(sweep):
    """A name is text, not markup."""
    html = written(sweep(*GOOD, more=["sweep.name='<b>x & y'"]))["report.html"].read_text()
    assert "<h1>&lt;b&gt;x &amp; y</h1>" in html
    assert "<b>x" not in html.partition("<script")[0]


def test_the_table(sweep):
    """Each trial is a line with its state, its point, its value and what went wrong."""
    first, *_, cut, bad = rows(written(sweep(*GOOD, CUT, BAD)))
    assert (first["number"], first["state"], first[RATE], first[DECAY]) == ("0", "done", "0.001", "0.0")
    assert (first["eval_accuracy"], first["folder"], first["error"]) == ("0.7", "0", "")
    assert (cut["state"], cut["eval_accuracy"]) == ("pruned", "")
    assert (bad["state"], bad["error"], bad["seconds"]) == ("failed", "ValueError: a <b>bad</b>, one", "2.5")


def test_seeds(sweep):
    """The table has each seed's value, their mean, and from three seeds on an interval within the metric's range."""
    full = fake(0.01, 0, 0.8, values={"eval_accuracy": [0.7, 0.8, 0.81]})
    half = fake(0.1, 0, state="PRUNED", values={"eval_accuracy": [0.1, 0.3]})
    wide = fake(0.1, 0.1, 0.5, values={"eval_accuracy": [0.0, 0.5, 1.0]})
    equal = fake(0.05, 0, 0.9, values={"eval_accuracy": [0.9, 0.9, 0.9]}, metrics={"eval_samples": 100})
    files = written(sweep(full, half, wide, equal, more=["sweep.seeds=[1,2,7]"]))
    found = rows(files)
    limits = [(row["eval_accuracy mean"], row["eval_accuracy low"], row["eval_accuracy high"]) for row in found]
    assert [found[0][f"eval_accuracy seed={seed}"] for seed in (1, 2, 7)] == ["0.7", "0.8", "0.81"]
    half_width = 4.302653 * statistics.stdev([0.7, 0.8, 0.81]) / 3**0.5  # Student's t of 2 degrees of freedom
    assert [float(text) for text in limits[0]] == pytest.approx([0.77, 0.77 - half_width, 0.77 + half_width])
    assert (found[1]["eval_accuracy seed=2"], found[1]["eval_accuracy seed=7"]) == ("0.3", "")
    assert limits[1] == ("0.2", "", "")  # too few seeds
    assert limits[2] == ("0.5", "0.0", "1.0")  # the range of accuracy
    assert [float(text) for text in limits[3]] == pytest.approx([0.9, 0.8256, 0.9448], abs=1e-4)  # of 100 rows
    html = files["report.html"].read_text()
    assert "0.1000 to 0.3000 (range of 2 runs)" in html


def test_pruned_curves_are_dotted(sweep):
    """Curves of pruned trials are told from the others, on the page and in the picture."""
    study = sweep(*GOOD, CUT)
    (curves,) = [one for one in plots.make_plots(study.plan, study.trials()) if one.name == "learning_curves"]
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
        ([fake(0.01, 0, 0.5)] * 10, 2),
        ([BAD, CUT], 3),
    ],
    ids=["none", "one", "alike", "no success"],
)
def test_what_cannot_be_drawn_is_said(sweep, trials, missing):
    """Too few or too equal trials leave pictures out, with the reason in the page."""
    files = written(sweep(*trials))
    assert files["report.html"].read_text().count("is not drawn: ") == missing
    assert len(files) == 2 + 4 - missing


def test_a_picture_that_fails_stops_nothing(sweep, monkeypatch, caplog):
    """The others are drawn, and the page and the log say why one is not."""

    def broken(*_, **__):
        raise RuntimeError("no paint")

    for name in ("optuna.visualization", "optuna.visualization.matplotlib"):  # optuna's attributes are lazy
        monkeypatch.setattr(importlib.import_module(name), "plot_optimization_history", broken)
    files = written(sweep(*GOOD))
    assert "is not drawn: no paint." in files["report.html"].read_text()
    assert "optimization_history.png was not drawn: no paint" in caplog.text
    assert "optimization_history.png" not in files
    assert "parallel_coordinates.png" in files


def test_two_objectives(sweep):
    """There is a front, and the other pictures once an objective."""
    trials = [fake(10 ** -(1 + i / 4), i % 2 / 10, 0.5 + i / 20, 0.6 - i / 40) for i in range(10)]
    files = written(sweep(*trials, more=[TWO]))
    ours = ("optimization_history", "parallel_coordinates", "parameter_importances")
    each = [f"{name}_{objective}.png" for name in ours for objective in ("accuracy", "loss")]
    assert set(files) == {"pareto_front.png", *each, "report.html", "trials.csv"}


@pytest.mark.parametrize("more", [[], [TWO]])
def test_the_command_for_the_best_trial_works(sweep, own_directory, capsys, more):
    """`sweep finish` accepts the arguments of the note, also with several objectives; a dry run leaves no files."""
    trials = (fake(0.01, 0, 0.5 + i / 20, *([0.6 - i / 40] if more else [])) for i in range(3))
    study = sweep(*trials, more=more)
    command = best_command(study.plan, results.rows(study.plan, study.trials()))
    before = {path for path in own_directory.rglob("*") if path.suffix in (".yaml", ".json")}
    assert dispatch([*shlex.split(command)[1:], "-n"]) == 0
    assert "trial 2 " in capsys.readouterr().out
    assert {path for path in own_directory.rglob("*") if path.suffix in (".yaml", ".json")} == before
    assert best_command(study.plan, []) == ""


@pytest.mark.slow
def test_conditional_parameters(toy):
    """Trials that lack a parameter are drawn by those that all have."""
    space = [f"{RATE}=0.001,0.003,0.01,0.03", "adapter=none,lora", "adapter.config.r=2,4"]
    study = fake_study([*toy, *space, "sweep.conditions={adapter.config.r: 'adapter=lora'}"])
    add_grid(study, *(i / 20 for i in range(12)))
    files = written(study)
    assert "parallel_coordinates.png" in files
    assert "parameter_importances.png" in files
    assert rows(files)[0]["adapter.config.r"] == ""


@pytest.mark.parametrize("named", ["name", "directory"])
def test_report_of_a_sweep_that_runs(sweep, named, capsys):
    """`hydratune sweep report` prints what there is so far and writes the files, by name or by directory."""
    study = sweep(*GOOD, fake(0.01, 0, state="RUNNING", said=(0.2,)))
    plan = study.plan
    assert dispatch(["sweep", "report", plan.name if named == "name" else str(plan.directory)]) == 0
    out = capsys.readouterr().out
    assert "3 of 8 trials, 1 waiting, best accuracy 0.9000 (trial 1)" in out
    assert f"report   multirun/{plan.name}/report/report.html" in out
    assert (plan.directory / "report" / "learning_curves.png").is_file()


def test_status_of_a_sweep_writes_nothing(sweep, capsys):
    """`hydratune sweep status` prints the table of a sweep that runs."""
    plan = sweep(*GOOD, fake(0.01, 0, state="RUNNING", said=(0.2,))).plan
    assert dispatch(["sweep", "status", plan.name, "--watch"]) == 0  # without a terminal, once
    out = capsys.readouterr().out
    assert "3 of 8 trials, 1 waiting, best accuracy 0.9000 (trial 1)" in out
    assert "▅█▁" in out
    assert not (plan.directory / "report").exists()


def test_a_sweep_that_is_not_there(sweep):
    """One message names the nearest one; another verb than the three is an error too."""
    plan = sweep().plan
    for arguments, key, nearest in ((["report", plan.name[:-2]], "NAME", plan.name), (["reprot"], "sweep", "report")):
        with pytest.raises(ConfigError) as caught:
            dispatch(["sweep", *arguments])
        (problem,) = caught.value.problems
        assert (problem.key, problem.hint.partition(": ")[2]) == (key, nearest)
        assert repr(arguments[-1]) in problem.text


def test_plan(toy, capsys):
    """`hydratune sweep plan` says what `-m --dry-run` says, and leaves nothing."""
    overrides = [*toy, f"{RATE}=0.001,0.01"]
    assert dispatch(["sweep", "plan", *overrides]) == 0
    said = capsys.readouterr().out
    assert dispatch(["-m", *overrides, "--dry-run"]) == 0
    assert said == capsys.readouterr().out
    assert "2 trials" in said
    assert not Path("multirun").exists()


@pytest.mark.slow
def test_values_are_drawn_literally(toy, caplog):
    """Values that rich, HTML, or matplotlib could interpret appear as they are on the page and in the plots."""
    values = ["[/INST] ", "<script>x</script>", "$", "$a$b", "$$", "{}"]
    study = fake_study([*toy, f"vars.x={','.join(map(repr, values))}", f"{RATE}=0.001,0.01", TWO])
    points = study.plan.space.grid()
    spread = {one.name: CategoricalDistribution(one.labels) for one in study.plan.space.parameters}
    for i, point in enumerate(points):
        scores = [i / 20, 1 - i / 20]
        study.study.add_trial(optuna.trial.create_trial(values=scores, params=point, distributions=spread))
    files = written(study)
    assert "no " not in caplog.text
    assert "parallel_coordinates_accuracy.png" in files
    html = files["report.html"].read_text()
    begin = html.partition("<script")[0]
    assert "[/INST] " in begin
    assert "&lt;script&gt;x&lt;/script&gt;" in begin
    assert "<script>x" not in html
    (front,) = [one for one in plots.make_plots(study.plan, study.trials()) if one.name == "pareto_front"]
    tooltips = " ".join(text for trace in front.draw(optuna.visualization).data for text in trace.text)
    assert "&lt;script&gt;x" in tooltips
    assert "<script" not in tooltips


def test_nothing_is_left_open(sweep):
    """No figure stays in memory, and matplotlib's style is as before."""
    before = pyplot.rcParams["axes.facecolor"]
    written(sweep(*GOOD))
    assert pyplot.get_fignums() == []
    assert pyplot.rcParams["axes.facecolor"] == before
