"""MLflow's pages in a real browser show what hydratune has logged."""

import itertools
import json
import os
import re
import socket
import subprocess
from types import SimpleNamespace

import pytest

import browser
from conftest import toy_rows, write_rows
from hydratune.cli import ui
from hydratune.cli.ui import pointers
from hydratune.tracking.client import connect
from hydratune.tracking.runs_view import PARENT, charts_page, runs_page, sweep_page, view
from mlflow_server import serving
from processes import HYDRATUNE

RATES, SEEDS = ["0.0001", "0.01", "0.05", "0.1"], ["1", "2"]
needs_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "a browser is here")


@pytest.fixture(scope="module")
def eight_runs(tmp_path_factory, tiny_model):
    """The directories of eight short runs in one experiment of a store of their own."""
    folder = tmp_path_factory.mktemp("pages")
    for split, rows in toy_rows().items():
        write_rows(folder / f"{split}.jsonl", rows)
    typed = ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in toy_rows())]
    typed += ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}", "hardware=cpu"]
    typed += ["trainer.args.per_device_train_batch_size=4"]  # steps enough for the runs to differ
    values = [f"trainer.args.learning_rate={','.join(RATES)}", f"seed={','.join(SEEDS)}"]
    env = {**os.environ, "HYDRATUNE_CACHE": str(folder / "cache"), "HF_DATASETS_CACHE": str(folder / "datasets")}
    subprocess.run([HYDRATUNE, "-m", *typed, *values], cwd=folder, env=env, check=True, capture_output=True)
    return sorted(folder.glob("multirun/*/[0-7]"))


@pytest.fixture(scope="module")
def pages(eight_runs):
    """The pages of `hydratune ui` on one of the runs: a browser, the printed address, the store."""
    pointer = json.loads((eight_runs[0] / "mlflow.json").read_text())
    with serving(eight_runs[0]) as (base, line), browser.browsing() as driver:
        address = next(word for word in line.split() if word.startswith(base))
        client = connect(pointer["uri"])
        own = json.loads((eight_runs[0].parent / "mlflow.json").read_text())
        sweep = sweep_page(client, own["experiment_id"], own["run_id"])
        yield SimpleNamespace(driver=driver, base=base, address=address, client=client, sweep=sweep,
                              pointers=pointers(eight_runs[0].parent), **pointer)  # fmt: skip


def names():
    """What the names of the eight runs say was changed."""
    return [f"lr={rate} seed={seed}" for rate, seed in itertools.product(RATES, SEEDS)]


def header(driver):
    """The columns of the runs table, from left to right."""
    cells = driver.execute_script(
        "return [...document.querySelectorAll('.ag-header-cell')]"
        ".map(e => [e.getBoundingClientRect().x, e.innerText.trim()]).sort((a, b) => a[0] - b[0])"
    )
    return [text for _, text in cells if text]


@pytest.mark.slow
@needs_browser
def test_the_runs_page(pages):
    """The printed link opens the runs, not the traces; their names tell them apart, and the best is above."""
    pages.driver.get(pages.address)
    shown = browser.wait_text(pages.driver, "9 matching runs", *names())
    assert "Sort: best/accuracy" in shown
    columns = browser.wait("the columns of our view", lambda: _columns(pages.driver))
    assert columns[:5] == ["Run Name", "Created", "best/accuracy", "trials/best_accuracy", "best/loss"]
    assert columns[5:8] == ["sweep", "seed", "learning_rate"]
    assert {"dataset", "model", "seed", "learning_rate"} <= set(columns)
    best = pages.client.search_runs([pages.experiment_id], order_by=["metrics.`best/accuracy` DESC"], max_results=1)
    values = pages.driver.execute_script(
        "return [...document.querySelectorAll('.ag-center-cols-container [role=row]')]"
        ".sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
        ".map(row => parseFloat(row.querySelector('[col-id*=\"best/accuracy\"]').innerText))"
    )
    *values, of_the_sweep = values
    assert of_the_sweep is None  # it is not ranked among its trials
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(best[0].data.metrics["best/accuracy"], abs=1e-4)


def _columns(driver):
    found = header(driver)
    return found if "learning_rate" in found else None


@pytest.mark.slow
@needs_browser
def test_sweep_page_draws_the_objective(pages):
    """It shows the sweep's runs alone, and draws their objective over what was changed."""
    pages.driver.get(pages.base + pages.sweep)
    browser.wait_text(pages.driver, "8 matching runs", "Sort: best/accuracy", "Parallel Coordinates")
    axes = {"seed", "log10_learning_rate", "best/accuracy"}
    browser.wait("the axes", lambda: axes <= {*_texts(pages.driver, "svg text")})


@pytest.mark.slow
@needs_browser
def test_experiment_page_has_our_charts(pages):
    """They come first; without the view, MLflow would draw each metric in a chart of its own."""
    pages.driver.get(charts_page(pages.address))
    shown = browser.wait_text(pages.driver, "Sort: best/accuracy", "train/loss vs eval/loss", "hydratune\n(")
    assert shown.index("hydratune\n(") < shown.index("train/loss vs eval/loss")


@pytest.mark.slow
@needs_browser
def test_show_diff_only(pages):
    """MLflow's switch leaves the params in which runs differ, and hides those in which they agree."""
    runs = [one["run_id"] for one in pages.pointers]
    page = (
        f'/#/compare-runs?runs={json.dumps(runs)}&experiments=["{pages.experiment_id}"]&workflowType=machine_learning'
    )
    pages.driver.get(pages.base + page.replace(" ", ""))
    assert "num_train_epochs" in browser.wait_text(pages.driver, "Comparing 8 Runs", "Show diff only", *names())
    switch = "[...document.querySelectorAll('button[role=switch]')][0]"
    assert pages.driver.execute_script(f"return {switch}.closest('div').parentElement.innerText").strip()
    pages.driver.execute_script(f"{switch}.click()")
    params = browser.wait("fewer params", lambda: _without(pages.driver, "num_train_epochs"))
    assert "learning_rate" in params


def _without(driver, word):
    shown = driver.execute_script("return document.body.innerText")
    return shown if word not in shown else ""


@pytest.mark.slow
def test_sweep_page_has_a_plain_address(pages):
    """Terminals end a link at a quote or a bracket."""
    assert re.fullmatch(r"[\w/#?=&-]+", pages.sweep)


def _texts(driver, selector):
    return driver.execute_script(f"return [...document.querySelectorAll('{selector}')].map(e => e.textContent)")


@pytest.mark.slow
def test_the_page_of_the_only_experiment(eight_runs):
    """`hydratune ui` without a run opens the runs where the store has one experiment with runs."""
    store = f"sqlite:///{eight_runs[0].parents[2]}/outputs/mlflow.db"
    with serving("--uri", store) as (base, line):
        assert f"{base}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=hydratune" in line


def data(metrics=(), tags=None, **params):
    """The data of a run."""
    given = {"hydratune.objective": "eval_loss", "hydratune.direction": "min"} if tags is None else tags
    return SimpleNamespace(metrics=dict.fromkeys(metrics, 1.0), tags=given, params=params)


def test_a_view_of_what_differs():
    """Columns are the objective, then params in which runs differ or that some lack, then dataset, model, and seed."""
    state = view([data(["eval/loss"], seed="1", same="x", rate="1"), data(["eval/loss"], seed="2", same="x", new="1")])
    columns = ["metrics.`eval/loss`", *(f"params.`{name}`" for name in ("seed", "rate", "new", "dataset", "model"))]
    assert state["selectedColumns"] == columns
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`eval/loss`", True)


def test_a_view_prefers_the_kept_weights():
    """Where runs say what the kept weights reach, that is sorted by, the most first where more is better."""
    tags = {"hydratune.objective": "eval_f1", "hydratune.direction": "max"}
    state = view([data(["eval/f1", "best/f1", "test/f1"], tags)])
    assert state["selectedColumns"][:2] == ["metrics.`best/f1`", "metrics.`test/f1`"]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/f1`", False)


class FakeClient:
    """A store that has the given runs and remembers the tags of their experiment."""

    def __init__(self, *runs):
        self.runs = [SimpleNamespace(data=one, info=SimpleNamespace(run_id=str(i))) for i, one in enumerate(runs)]
        self.tags = {}
        self.steps = [1, 2]  # of each metric

    def search_runs(self, *_, **__):
        return self.runs

    def get_metric_history(self, *_):
        return [SimpleNamespace(step=step) for step in self.steps]

    def set_experiment_tag(self, _, key, value):
        self.tags[key] = json.loads(value)


def test_sweep_page_charts_the_logarithm():
    """A param that was searched by its logarithm is drawn by it; the table has the param itself."""
    trials = [data(["eval/loss"], seed="1", rate=f"1e-{i}", log10_rate=f"-{i}.0") for i in (3, 4)]
    sweep_page(client := FakeClient(*trials), "1", "parent")
    (state,) = client.tags.values()
    (lines,) = [chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL"]
    (bars,) = [chart for chart in state["compareRunCharts"] if chart["type"] == "BAR"]
    assert [*lines["selectedMetrics"], bars["metricKey"]] == ["eval/loss", "eval/loss"]
    assert lines["selectedParams"] == ["log10_rate"]
    assert "params.`rate`" in state["selectedColumns"]
    assert not [column for column in state["selectedColumns"] if "log10" in column]


def test_experiment_page_draws_what_was_measured():
    """Losses in one chart, the objective over steps and over each varied number, and the schedule."""
    metrics = ["train/loss", "eval/loss", "eval/f1", "best/f1", "train/learning_rate"]
    tags = {"hydratune.objective": "eval_f1", "hydratune.direction": "max", "sweep": "films"}
    runs = [data(metrics, tags, rate=f"1e-{i}", log10_rate=f"-{i}.0", pooling="ab"[i - 3], same="1") for i in (3, 4)]
    runs_page(client := FakeClient(*runs), "1")
    (state,) = client.tags.values()
    charts = state["compareRunCharts"]
    lines = [chart["selectedMetricKeys"] for chart in charts if chart["type"] == "LINE"]
    assert lines == [["train/loss", "eval/loss"], ["eval/f1"], ["train/learning_rate"]]
    assert [chart["xaxis"]["key"] for chart in charts if chart["type"] == "SCATTER"] == ["log10_rate"]
    assert [chart["selectedParams"] for chart in charts if chart["type"] == "PARALLEL"] == [["log10_rate", "pooling"]]
    assert [chart["metricKey"] for chart in charts if chart["type"] == "BAR"] == ["best/f1"]
    assert "tags.`sweep`" in state["selectedColumns"]
    assert len({chart["uuid"] for chart in charts}) == len(charts)


def test_charts_have_the_setting_if_some_runs_lack_its_logarithm():
    """Only a sweep records logarithms; the chart would omit all other runs of the experiment."""
    runs = [data(["eval/loss"], rate=f"1e-{i}", **more) for i, more in ((3, {"log10_rate": "-3.0"}), (4, {}))]
    runs_page(client := FakeClient(*runs), "1")
    (state,) = client.tags.values()
    assert [chart["xaxis"]["key"] for chart in state["compareRunCharts"] if chart["type"] == "SCATTER"] == ["rate"]


def test_single_points_are_not_drawn_as_curves():
    """A run of one step, or with one evaluation, has no curve; its value is in the table and in the bars."""
    client = FakeClient(data(["train/loss", "eval/loss", "best/loss", "train/learning_rate"]))
    client.steps = [7]
    runs_page(client, "1")
    (state,) = client.tags.values()
    assert {chart["type"] for chart in state["compareRunCharts"]} == {"BAR"}


def test_sweep_shows_its_best_value_without_being_ranked():
    """The value of the sweep's own run is in a column next to that of its trials."""
    trial = data(["best/loss"], {"hydratune.objective": "eval_loss", PARENT: "1"})
    client = FakeClient(trial, data(["trials/best_loss"]))
    runs_page(client, "1")
    (state,) = client.tags.values()
    assert state["orderByKey"] == "metrics.`best/loss`"
    assert state["selectedColumns"][:2] == ["metrics.`best/loss`", "metrics.`trials/best_loss`"]


def test_no_view_without_an_objective():
    """Runs of others, or none, leave the page as MLflow has it."""
    assert view([data(tags={})]) is None
    assert view([]) is None


@pytest.mark.slow
def test_a_sweeps_directory(eight_runs, monkeypatch, capsys):
    """`hydratune ui` on a sweep prints its own page and that of its runs' parallel coordinates; its run has the plot."""
    sweep = eight_runs[0].parent
    own = json.loads((sweep / "mlflow.json").read_text())
    monkeypatch.setattr(ui, "become_server", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ui.main([str(sweep), "--port", str(port), "--no-browser"])
    out = capsys.readouterr().out
    assert f"/runs/{own['run_id']}?workflowType=machine_learning" in out
    page = sweep_page(connect(own["uri"]), own["experiment_id"], own["run_id"])
    assert f"the 8 runs side by side: http://127.0.0.1:{port}{page}" in out
    assert len(pointers(sweep)) == 8
    drawn = {one.path for one in connect(own["uri"]).list_artifacts(own["run_id"], "report")}
    assert {"report/parallel_coordinates.png", "report/report.html"} <= drawn
