"""The report of a run: what it says, what it draws, and that it works offline."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

import browser
from hydratune.tasks.metrics.tables import one_label
from hydratune.tracking.journal import Journal
from hydratune.training.report import confusion, labels, page, probabilities, record, rows, summary
from hydratune.training.report.inputs import ReportInputs, metric_history
from hydratune.utils.figures import axis_labels

needs_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "a browser is here")
HISTORY = {
    "train/loss": {1: 2.0, 2: 1.5, 3: 1.2},
    "eval/loss": {2: 1.6, 3: 1.3},
    "eval/accuracy": {2: 0.5, 3: 0.6},
    "train/learning_rate": {1: 1e-4},
}


def prediction(label, predicted, probability=0.5, **more):
    """A decoded test row."""
    return {"text": f"a text of {label}", "label": label, "prediction": predicted, "probability": probability, **more}


def inputs(directory, decoded=(), **changes):
    """The contents of a small report."""
    names = [*dict.fromkeys(name for row in decoded for name in (row["label"], row["prediction"]))]
    tables = one_label(*([row[key] for row in decoded] for key in ("label", "prediction")), names) if decoded else {}
    made = ReportInputs(
        name="films",
        directory=directory,
        summary=["Test accuracy 0.5."],
        facts={"seed": "1"},
        columns={"test": {"accuracy": 0.5}},
        objective="eval_accuracy",
        best_step=2,
        history=HISTORY,
        tables=tables,
        rows=decoded,
    )
    return replace(made, **changes)


def figures(html):
    """The figures of a page: title -> what plotly draws."""
    pattern = r'<figcaption>(.*?)</figcaption>.*?<script type="application/json">(.*?)</script>'
    return {title: json.loads(content) for title, content in re.findall(pattern, html, re.DOTALL)}


def shared_labels(count):
    """A matrix of so many labels, of which the last 20 are confused with each other."""
    matrix = pd.DataFrame(0, index=range(count), columns=range(count))
    for i in range(count):
        matrix.loc[i, i] = 10
        if i >= count - 20:
            matrix.loc[i, i - 1 if i > count - 20 else count - 1] = 5
    return matrix


def test_report_marks_the_best_step(tmp_path):
    """Each curve has a line at the step of the weights that were measured."""
    drawn = figures(page.report(inputs(tmp_path)))
    assert {figure["layout"]["shapes"][0]["x0"] for figure in drawn.values()} == {2}
    assert [len(drawn["Loss"]["data"][i]["x"]) for i in (0, 1)] == [3, 2]


def test_report_omits_single_points(tmp_path):
    """A metric that was measured once is no curve."""
    assert [*figures(page.report(inputs(tmp_path)))] == ["Loss", "accuracy on validation (objective)"]


def test_report_is_complete_without_network(tmp_path):
    """The page loads nothing, and contains the code of plotly once."""
    html = page.report(inputs(tmp_path, [prediction("a", "a"), prediction("a", "b")]))
    assert not re.search(r'<(script|link|img|iframe)[^>]*\s(src|href)="(?!data:|\./)', html)
    assert html.count('id="plotly"') == 1


def test_report_without_test_rows(tmp_path):
    """A run without a test split has curves and metrics."""
    html = page.report(inputs(tmp_path, history={}))
    assert "Labels" not in html and 'id="plotly"' not in html
    assert "0.5" in html


def test_shares_are_of_true_labels():
    """Rows of the matrix add up to 1; cells without rows are blank."""
    shares = confusion.row_shares(pd.DataFrame([[3, 1], [0, 0]]))
    assert shares.loc[0].tolist() == [0.75, 0.25]
    assert shares.loc[1].isna().all()


@pytest.mark.parametrize(("count", "shown"), [(2, 2), (22, 22), (30, 30), (77, 20)])
def test_large_matrices_show_labels_with_errors(count, shown):
    """Up to 30 labels are shown completely; of more, those with the most wrong rows."""
    labels = confusion.confused_labels(shared_labels(count) if count >= 20 else pd.DataFrame([[1, 0], [0, 1]]))
    assert len(labels) == shown
    assert count < 31 or labels == [*range(count - 20, count)]


def test_confused_pairs_come_with_their_share():
    """The pairs with the most rows come first; right predictions are none."""
    matrix = pd.DataFrame([[8, 2], [3, 3]], index=["a", "b"], columns=["a", "b"])
    pairs = [(pair.true, pair.predicted, pair.count, pair.share) for pair in confusion.confused_pairs(matrix)]
    assert pairs == [("b", "a", 3, 0.5), ("a", "b", 2, 0.2)]


def test_worst_errors_are_the_most_confident():
    """Right predictions are left out."""
    decoded = [prediction("a", "b", 0.6), prediction("a", "a", 0.99), prediction("b", "a", 0.9)]
    assert [row["probability"] for row in rows.worst_errors(decoded, 5)] == [0.9, 0.6]


def test_worst_errors_of_numbers_are_the_largest():
    """Regression has no right or wrong rows."""
    decoded = [{"label": 1.0, "prediction": 1.5}, {"label": 3.0, "prediction": 1.0}, {"label": 0.0, "prediction": 1.0}]
    assert [row["label"] for row in rows.worst_errors(decoded, 2)] == [3.0, 0.0]


def test_each_label_has_its_worst_error():
    """A reader sees one wrong row of each true label."""
    decoded = [
        prediction("a", "b", 0.6),
        prediction("a", "c", 0.7),
        prediction("b", "b", 0.9),
        prediction("c", "a", 0.1),
    ]
    errors = rows.error_by_label(decoded)
    assert {label: row["prediction"] for label, row in errors.items()} == {"a": "c", "c": "a"}


@pytest.mark.parametrize(("more", "number"), [({}, 1), ({"row": 7}, 7)])
def test_error_of_a_label_has_its_row(more, number):
    """The number of the row in its file; the position where the rows have no numbers."""
    decoded = [prediction("a", "a"), prediction("b", "a", **more)]
    (scores, *_) = labels.label_blocks(one_label(["a", "b"], ["a", "a"], ["a", "b"]), decoded)
    assert {*re.findall(r"row (\d+):", str(scores))} == {str(number)}


def test_calibration_compares_confidence_with_correct_rows():
    """Rows are grouped by confidence."""
    decoded = [
        prediction("a", "a", 0.95),
        prediction("a", "b", 0.95),
        prediction("a", "a", 1.0),
        prediction("a", "b", 0.2),
    ]
    bins = probabilities.calibration(decoded)
    assert [(round(mean, 3), round(share, 3), count) for mean, share, count in bins] == [(0.2, 0, 1), (0.967, 0.667, 3)]


def test_probabilities_of_two_labels_have_roc_and_precision_curves(tmp_path):
    """They are drawn for the second label; the area is that of the probabilities."""
    decoded = []
    for i in range(40):
        label, share = ("b", 0.6 + i / 200) if i % 2 else ("a", 0.4 - i / 200)
        decoded.append(prediction(label, label, max(share, 1 - share), probabilities={"a": 1 - share, "b": share}))
    drawn = figures(page.report(inputs(tmp_path, decoded)))
    assert {"Calibration", "ROC", "Precision and recall"} <= {*drawn}
    assert "b: area 1.000" in [trace["name"] for trace in drawn["ROC"]["data"]]


def test_history_merges_the_log_and_the_journal(tmp_path):
    """Trainer's log has losses; the journal of the tracker adds the speed, and overrides nothing."""
    Journal(tmp_path).write_metrics({"train/samples_per_second": 9.0, "train/loss": 7.0}, step=1)
    history = metric_history(tmp_path, [{"loss": 2.0, "epoch": 0.5, "step": 1}, {"eval_f1": 0.5, "step": 2}])
    assert history == {"train/loss": {1: 2.0}, "eval/f1": {2: 0.5}, "train/samples_per_second": {1: 9.0}}


def test_summary_has_the_interval_of_a_proportion():
    """The limits are Wilson's; the baseline is the share of the most frequent label."""
    metrics = {"test_accuracy": 0.8, "test_samples": 100, "eval_accuracy": 0.75, "eval_samples": 60, "step": 40}
    test, validation = summary.result_sentences(metrics, "eval_accuracy", True, 0.3)
    assert all(text in test for text in ("0.8000", "0.711", "0.867", "100 rows", "0.3000"))
    assert all(text in validation for text in ("0.7500", "60 rows", "step 40"))


def test_summary_of_a_run_without_test_rows():
    """Only validation was measured."""
    (sentence,) = summary.result_sentences({"eval_loss": 1.25, "step": 8}, "eval_loss", False)
    assert "1.2500" in sentence and "step 8" in sentence


def test_axis_labels_are_distinct():
    """Plotly would add the bars of equal labels."""
    labels = axis_labels(["x" * 40 + "1", "x" * 40 + "2", "<b>"])
    assert len({*labels}) == 3 and labels[2] == "&lt;b&gt;"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("count", [2, 22, 77])
def test_report_in_a_browser(tmp_path, count):
    """Figures are drawn, and neither the page nor a table scrolls sideways at widths from 700 to 1600 px."""
    names = [f"beneficiary_unrecognized_{i:02d}" for i in range(count)]
    words = {"text": "words of a long text " * 20}
    decoded = [prediction(names[i % count], names[(i + (i % 7 == 0)) % count], 0.9) | words for i in range(5 * count)]
    path = page.write(inputs(tmp_path, decoded))
    for width in (700, 1200, 1600):
        with browser.browsing(width, 1000) as driver:
            driver.get(path.as_uri())
            browser.wait("the figures", lambda: driver.execute_script("return document.body.dataset.ready"))
            drawn, sizes = driver.execute_script(
                "const page = document.documentElement;"
                "return [document.querySelectorAll('.plot .main-svg').length, [page.scrollWidth, page.clientWidth]]"
            )
            assert drawn >= 3
            assert sizes[0] <= sizes[1]
            assert driver.execute_script(
                "return [...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)"
            )
            assert driver.execute_script(
                "const texts = [...document.querySelectorAll('.clipped')];"
                "return texts.length > 0 && texts.every(text => text.clientHeight <= 100)"
            )
            assert driver.get_log("browser") == []


@pytest.mark.slow
@needs_browser
def test_report_follows_the_theme_and_sorts(tmp_path):
    """The figures change their colors with the page, and a click on a header sorts the table."""
    decoded = [prediction("a", "a"), prediction("b", "a"), prediction("b", "b")]
    path = page.write(inputs(tmp_path, decoded))
    with browser.browsing(1200, 1000) as driver:
        driver.get(path.as_uri())
        browser.wait("the figures", lambda: driver.execute_script("return document.body.dataset.ready"))
        script = "return [...document.querySelectorAll('.plot')].map(plot => plot._fullLayout.font.color)"
        light = {*driver.execute_script(script)}
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        dark = browser.wait("other colors", lambda: {*driver.execute_script(script)} - light)
        assert len(light) == len(dark) == 1
        values = driver.execute_script(
            "const table = [...document.querySelectorAll('table')].find(one => one.innerText.includes('recall'));"
            "const header = [...table.tHead.rows[0].cells].find(one => one.innerText.startsWith('rows'));"
            "const read = () => [...table.tBodies[0].rows].map(row => row.cells[header.cellIndex].innerText);"
            "header.click(); const first = read(); header.click(); return [first, read()]"
        )
        assert values == [["2", "1"], ["1", "2"]]


def test_thumbnails_are_in_the_page(tmp_path):
    """Errors of images show them; the page needs no file besides."""
    decoded = [
        {"label": "a", "prediction": "b", "probability": 0.9},
        {"label": "b", "prediction": "b", "probability": 1.0},
    ]
    html = page.report(inputs(tmp_path, decoded, thumbnail=lambda number: f"image {number}".encode()))
    assert re.findall(r'src="data:image/webp;base64,([^"]*)"', html) == ["aW1hZ2UgMA=="]


def test_files_link_to_what_exists(tmp_path):
    """Links are relative to the page, and only to files that are there."""
    (tmp_path / "metrics.json").write_text("{}")
    html = page.report(inputs(tmp_path))
    assert re.findall(r'href="([^"]*)"', html) == ["./metrics.json"]


def test_settings_name_the_data_by_its_digest():
    """A reader sees what was trained, on which rows."""
    job = SimpleNamespace(choices={"task": "t", "model": "m", "dataset": "local", "adapter": "lora"})
    split = SimpleNamespace(split="train", name="films", rows=1200, digest="0123456789abcdef")
    facts = summary.setting_facts(job, {"learning_rate": "1e-4", "seed": "7", "max_steps": "-1"}, [split])
    assert facts["data"] == "films: train 1,200 rows (01234567)"
    assert facts["model"].startswith("m") and "lora" in facts["model"]
    assert (facts["seed"], facts["settings"]) == ("7", "lr 1e-4")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_report_accepts_any_number(value, tmp_path):
    """Each number can be missing, NaN, or infinite; the report and its sentences have the others."""
    names = ("eval_loss", "eval_accuracy", "test_accuracy", "train_runtime", "train_samples_per_second")
    metrics = {**dict.fromkeys(names, value), "step": 3, "test_samples": 2}
    history = {name: dict.fromkeys(points, value) for name, points in HISTORY.items()}
    decoded = [prediction("a", "b", value, probabilities={"a": value, "b": 0.5}), prediction("b", "b", value)] * 20
    sentences = [*summary.result_sentences(metrics, "eval_accuracy", is_best=True), "No more."]
    facts = {"cost": summary.cost(metrics, {}, "cpu")}
    html = page.report(
        inputs(
            tmp_path,
            decoded,
            summary=sentences,
            facts=facts,
            columns=summary.columns(metrics),
            history=history if value is not None else {},
        )
    )
    assert "Confusion matrix" in html
    regression = [{"label": 1.0, "prediction": value}, {"label": 1.0, "prediction": 1.5}]
    assert rows.worst_errors(regression, 2)[0]["prediction"] is value
    assert "Errors (test)" in page.report(inputs(tmp_path, rows=regression))


def test_loss_of_training_is_shown_with_one_point(tmp_path):
    """A run that logged its training loss once has a point next to the curve on validation."""
    drawn = figures(page.report(inputs(tmp_path, history={**HISTORY, "train/loss": {3: 1.2}})))
    assert [line["name"] for line in drawn["Loss"]["data"]] == ["training", "validation"]


def test_cost_has_the_mean_loads():
    """What was measured of CPU and GPUs is in the note, by the name of the device."""
    history = {"system/cpu_utilization_percentage": {10: 50.0, 20: 90.0}, "system/gpu_0_utilization_percentage": {}}
    assert summary.cost({}, history, "cpu") == "mean load of the CPU 70%"


def test_note_of_a_run_names_its_base_model(tmp_path):
    """The facts of the report are those of the note."""
    notes = []
    log = SimpleNamespace(note=notes.append, artifact=notes.append)
    record.record(inputs(tmp_path, facts={"model": "minilm"}), log)
    assert "| model | minilm |" in notes[0]
