"""Labels, names, and messages that try to control a terminal, a page, or a spreadsheet."""

import contextlib
import csv
import io
import json
import logging
import re
import sys
from html.parser import HTMLParser

import optuna
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from optuna.distributions import CategoricalDistribution

from conftest import toy_rows, write_rows
from fake_sweep import RATE, fake_study
from hydratune.sweep import tracking
from hydratune.sweep.report import page as report
from hydratune.sweep.report import results
from hydratune.tasks.metrics.tables import one_label
from hydratune.tracking import notes
from hydratune.tracking.client import connect
from hydratune.training import tables
from hydratune.training.report.inputs import ReportInputs
from hydratune.training.report.page import report as run_report
from hydratune.utils.console import plain_console
from hydratune.utils.escaping import escape_control, escape_formula, escape_markdown, markdown_code
from hydratune.utils.logs import GuardedStream, guard_output
from processes import hydratune

# A title and a clear by ESC and by C1, a bell, a return to the start of the line, reversed text, DEL, a new line for
# JavaScript, and a file name's lone surrogate
CONTROLS = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202egnp\u2066\u200f\x7f\u2028\udc9b"
MARKUP = (
    "<img src=x onerror=alert(1)>![p](http://evil.example/p.png)[l](http://evil.example)|`<script>alert(1)</script>"
)
NAME = "<img src=x onerror=alert(1)>![p](x)[l](javascript:alert(1))|`"  # a name of a run has no slashes
HOSTILE = CONTROLS.replace("\udc9b", "") + MARKUP  # as a file in UTF-8 can have it
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "=1\x1b[2J"]


def controls_in(text):
    """Characters of a text that a terminal interprets, except for tabs and ends of lines."""
    return [character for character in text if character in CONTROLS and ord(character) not in range(0x20, 0x7F)]


class Elements(HTMLParser):
    """Collects the elements of a page that a hostile text could add."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = {name for name, _ in attrs}
        if tag in ("img", "a", "iframe") or any(name.startswith("on") or name in ("src", "href") for name in names):
            self.found.append((tag, attrs))


def active(markdown):
    """What a text in Markdown has besides text: links, images, and HTML."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    inner = [child for token in tokens for child in (token.children or [token])]
    kinds = ("link_open", "image", "html_inline", "html_block")
    return [token.attrs.get("href", token.content) for token in inner if token.type in kinds]


def to_console(text):
    """A line and a table of a console with colors."""
    from rich.table import Table

    out = io.StringIO()
    console = plain_console(file=GuardedStream(out), width=2000)
    table = Table(text, title=text, caption=text)
    table.add_row(text, style="bold")
    console.print(text)
    console.print(table)
    return out.getvalue()


def to_stream(text):
    """A line of `print`."""
    out = io.StringIO()
    with contextlib.redirect_stdout(GuardedStream(out)):
        print(text)
        sys.stdout.writelines([text])
    return out.getvalue()


def to_bar(text):
    """A progress bar and a line above it."""
    from tqdm import tqdm

    out = io.StringIO()
    stream = GuardedStream(out, has_bars=True)
    with tqdm(range(2), desc=text, file=stream, mininterval=0) as bar:
        bar.write(text, file=stream)
        bar.update()
    assert out.getvalue().count("\r") > 1
    return out.getvalue().replace("\r", "")


def to_log(text):
    """A record with a message, arguments, and a traceback."""
    out = io.StringIO()
    handler, logger = logging.StreamHandler(out), logging.getLogger("hostile")
    logger.addHandler(handler)
    before, hook, streams = logging.getLogRecordFactory(), sys.excepthook, (sys.stdout, sys.stderr)
    try:
        guard_output()
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception("%s", text)
            logger.warning(text)
    finally:
        logging.setLogRecordFactory(before)
        sys.excepthook = hook
        sys.stdout, sys.stderr = streams
        logger.removeHandler(handler)
    return out.getvalue()


def to_card_line(text):
    """A line of Markdown."""
    return escape_markdown(text)


SINKS = [to_console, to_stream, to_bar, to_log, to_card_line]


@pytest.mark.parametrize("sink", SINKS)
def test_sink_escapes_control_characters(sink):
    """No byte of a text is interpreted by the terminal, and the rest of the text is there."""
    written = sink(f"before {CONTROLS} after")
    assert controls_in(written) == []
    assert "before " in written
    assert " after" in written
    written.encode()  # also without lone surrogates


@pytest.mark.parametrize("text", ["plain", "naïve", "日本語", "שלום", "👩‍👩‍👧", "می‌خواهم", "a\tb\nc"])
@pytest.mark.parametrize("sink", [to_stream, to_bar, to_log])
def test_sink_leaves_ordinary_text(sink, text):
    """Other scripts, emoji with joiners, tabs, and ends of lines are no control characters."""
    assert text.splitlines()[0] in sink(text)
    assert escape_control(text) == text


@pytest.mark.parametrize("sink", [to_stream, to_bar, to_log])
def test_sink_drops_colors_of_libraries(sink):
    """Ray colors what workers print; escaped colors would be noise in each line."""
    assert "a b c" in sink("a \x1b[1m\x1b[36mb\x1b[0m c")


def test_console_prints_its_styles(monkeypatch):
    """Styles of our own still reach a terminal, also while rich redirects the streams for a live table."""
    from rich.live import Live

    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", GuardedStream(out))
    console = plain_console(force_terminal=True, color_system="standard", legacy_windows=False, _environ={})
    with Live(console=console, auto_refresh=False):
        console.print("x", style="red")
    assert "\x1b[31mx\x1b[0m" in out.getvalue()
    assert "u001b" not in out.getvalue()


def test_log_indents_further_lines():
    """A message cannot look like two records."""
    assert all(
        line.startswith("  ") for line in to_log("a\n2026-01-01 INFO hydratune: b").splitlines() if "2026" in line
    )


@pytest.mark.parametrize("text", [MARKUP, f"x {MARKUP}", "# h", "<https://evil.example>", "[a]: http://evil.example", "&lt;", "a_b _c_ *d*", "`", "\\[a\\](b)", "a\n\n<b>"])  # fmt: skip
def test_markdown_shows_text_literally(text):
    """No link, image, or HTML; the text itself is what a reader sees, also in a cell of a table."""
    for markdown in (f"see {escape_markdown(text)}", f"| a |\n| --- |\n| {escape_markdown(text)} |"):
        assert active(markdown) == []
        tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
        shown = "".join(child.content for token in tokens for child in token.children or [])
        assert " ".join(text.split()) in shown


@pytest.mark.parametrize(
    "text", ["http://evil.example", "HTTPS://evil.example", "www.evil.example", "WWW.evil.example"]
)
def test_markdown_has_no_bare_links(text):
    """GitHub's Markdown links these without markup, unless they are interrupted."""
    assert text not in escape_markdown(text)


@pytest.mark.parametrize("before", ["a|", "a\\|", "a\\\\|", "`|", "a\\`|", "``|`", "a\n\n"])
@pytest.mark.parametrize("text", ["![p](http://evil.example/p.png)", "<img src=x>", "[l](http://evil.example)"])
def test_code_in_a_table_is_text(before, text):
    """A name of a directory does not end the code and the cell that it is in."""
    table = f"| | |\n| --- | --- |\n| started from | {markdown_code(before + text)} |\n"
    assert active(table) == []


@pytest.mark.parametrize("cell", FORMULAS)
def test_formula_is_escaped(cell):
    """A spreadsheet shows the cell as text."""
    assert escape_formula(cell).startswith("'")
    assert controls_in(escape_formula(cell)) == []


@pytest.mark.parametrize(
    "formula", [";=1+1", "; +1+1", "\t@SUM(A1)", "\n-1+1", '\n"=1+1', ';"\t=1+1', ";\uff1d1", ";;=1"]
)
@pytest.mark.parametrize("splits_at", [";", "\t", ","])
def test_formula_within_a_cell_is_escaped(formula, splits_at):
    """A spreadsheet that splits lines at another character than a comma has no formula in any cell either."""
    out = io.StringIO()
    csv.writer(out).writerow(["0.5", escape_formula(f"a{formula}"), "b"])
    cells = [cell for row in csv.reader(io.StringIO(out.getvalue()), delimiter=splits_at) for cell in row]
    assert [cell for cell in cells if cell.lstrip(' "\t\n')[:1] in ("=", "+", "-", "@", "\uff1d") and cell] == []


@pytest.mark.parametrize("cell", ["a;b", "x - y", "a\nb", "a; b=c", "me@example.org;you@example.org"])
def test_text_with_separators_stays(cell):
    """Signs that are not at the beginning of a part."""
    assert escape_formula(cell) == cell


@pytest.mark.parametrize("cell", ["-1.5", "+3", "-1e-5", "-inf", "1,5", "pos", "", "a=b", "x@y", -1.5, 0, None, True])
def test_other_cells_stay(cell):
    """Numbers, also in texts, and ordinary texts."""
    assert escape_formula(cell) is cell or escape_formula(cell) == cell


def test_tables_of_labels(tmp_path):
    """The CSV files of a run: no formula in a name of a row, of a column, or in a cell."""
    labels = [*FORMULAS, HOSTILE]
    made = one_label(labels, labels, labels)
    for path in tables.write(made, tmp_path / "tables"):
        if path.suffix == ".csv":
            text = path.read_bytes().decode()
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert [cell for cell in cells if escape_formula(cell) != cell] == []
            assert controls_in(text) == []
            assert "1.0" in cells or "1" in cells


@pytest.fixture
def study(toy):
    """A sweep with a hostile value and a hostile error; its name is hostile as well."""
    values = [f"=1+1{MARKUP}", MARKUP, "-1.5"]
    name = f"name={json.dumps(NAME)}"
    typed = [*toy, name, f"vars.x={','.join(json.dumps(value) for value in values)}", f"{RATE}=0.001,0.01"]
    made = fake_study(typed)
    spread = {one.name: CategoricalDistribution(one.labels) for one in made.plan.space.parameters}
    for i, point in enumerate(made.plan.space.grid()):
        done = (
            {"state": optuna.trial.TrialState.FAIL, "user_attrs": {"error": f"={HOSTILE}"}} if i == 5 else {"value": -i}
        )
        made.study.add_trial(optuna.trial.create_trial(params=point, distributions=spread, **done))
    return made


def _is_folder(attributes):
    """Whether a link leads to the folder of a trial, next to the report."""
    return [name for name, _ in attributes] == ["href"] and re.fullmatch(r"\./\.\./[\w%/]*/", attributes[0][1])


def test_report_of_a_sweep(study):
    """The page has no element of a value, a name, or an error; the table has no formula, and its numbers stay."""
    files = {path.name: path for path in report.write(study)}
    page = files["report.html"].read_bytes().decode()
    parser = Elements()
    parser.feed(page)
    assert [attributes for tag, attributes in parser.found if tag != "a" or not _is_folder(attributes)] == []
    assert controls_in(page) == []
    text = files["trials.csv"].read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["vars.x"] for row in rows} == {f"'=1+1{MARKUP}", MARKUP, "-1.5"}
    assert [row["error"][:2] for row in rows] == [*[""] * 5, "'="]
    assert rows[1]["eval_accuracy"] == "-1.0"
    assert controls_in(text) == []


def test_report_of_a_run(tmp_path):
    """The page has no element of a label, an input, a name, a fact, or a path; only its own links and images."""
    labels = [*FORMULAS, HOSTILE, MARKUP, "</script><script>alert(1)</script>"]
    decoded = [
        {"text": HOSTILE, "label": label, "prediction": labels[i - 1], "probability": 0.9, "group": MARKUP}
        for i, label in enumerate(labels)
    ]
    (tmp_path / "config.yaml").write_text("")
    hostile_page = run_report(
        ReportInputs(
            name=HOSTILE,
            directory=tmp_path,
            summary=[HOSTILE, MARKUP],
            facts={MARKUP: HOSTILE},
            columns={"test": {MARKUP: 0.5, "x": HOSTILE}},
            objective=f"eval_{MARKUP}",
            best_step=1,
            history={f"eval/{HOSTILE}": {1: 0.5, 2: 0.6}},
            tables=one_label(*(([row[key] for row in decoded]) for key in ("label", "prediction")), labels),
            rows=decoded,
            loading=HOSTILE,
            command=HOSTILE,
            link=HOSTILE,
        )
    )
    parser = Elements()
    parser.feed(hostile_page)
    assert parser.found == [("a", [("href", "./config.yaml")])]
    assert controls_in(hostile_page) == []
    assert hostile_page.count("alert(1)") > 10
    for title in re.findall(r'"(?:title|text|name|hovertemplate)": ?"[^"]*"', hostile_page):  # plotly reads some tags
        assert "\\u003cimg" not in title and "\\u003ca" not in title


@pytest.mark.parametrize("text", [HOSTILE, MARKUP, "`", "a|b", "a\nb"])
def test_notes_show_texts_literally(text):
    """MLflow shows notes as Markdown."""
    made = notes.failed_note(text, text, notes.note([text, text], {text: text}, text))
    assert active(made) == []
    assert active(notes.interrupted_note(text, "")) == []


def test_note_of_a_sweep(study, compose, toy, store, monkeypatch):
    """MLflow shows a run's note as Markdown."""
    monkeypatch.setattr(report, "write", lambda _: [])  # plots take seconds
    with tracking.SweepRun(study, compose(*toy)) as recorded:
        recorded.update(results.rows(study.plan, study.trials()))
    client = connect(store)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    note = run.data.tags["mlflow.note.content"]
    assert "1+1" in note
    assert active(note) == []


def test_files_and_output_of_a_run(toy, own_directory):
    """A run with a hostile name and hostile labels: nothing that it prints, logs, or writes for people is interpreted."""
    labels = {"pos": f"={HOSTILE}", "neg": f"@{HOSTILE}"}
    for split, rows in toy_rows().items():
        write_rows(own_directory / f"{split}.jsonl", [{**row, "label": labels[row["label"]]} for row in rows])
    name = f"name={json.dumps(NAME)}"
    done = hydratune(*toy, name, "tracking=none", "hydra.run.dir=run", "trainer.args.max_steps=1", "objective=eval_f1")
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr.replace("\r", "").replace("\x1b[A", "")  # of progress bars
    card = (own_directory / "run/model/README.md").read_bytes().decode()
    log = (own_directory / "run/hydratune.log").read_bytes().decode()
    assert [controls_in(text) for text in (printed, card, log)] == [[], [], []]
    assert active(ModelCard(card).text) == ["training_args.json"]


def test_message_of_an_error(own_directory, toy):
    """A file name that was typed, and a value of a row."""
    path = own_directory / f"{CONTROLS[:-1].replace('/', '')}.jsonl"
    path.write_text('{"text": 3}\n{"text": [')
    done = hydratune(*toy, f'dataset.files.train="{path.name}"', "tracking=none", "hydra.run.dir=run")
    assert done.returncode == 2, done.stderr
    assert controls_in(done.stdout + done.stderr) == []
    assert ".jsonl" in done.stderr


def test_comparison_as_csv_json_and_html(store, own_directory):
    """No formula in a name or a param of a run; JSON has the same names, and neither controls a terminal."""
    client = connect(store)
    where = client.create_experiment("films", f"file://{store[10:]}.files")
    for i, name in enumerate([f"={HOSTILE}", f"@{HOSTILE}"]):
        run = client.create_run(where, run_name=name).info.run_id
        client.log_param(run, "-x", ["=1", "-1.5"][i])
        client.log_metric(run, "test/accuracy", -0.5)
        client.set_terminated(run, "FINISHED")
    runs = [run.info.run_id for run in client.search_runs([where])]
    assert hydratune("compare", *runs, "--metric", "accuracy", "--report", "page.html").returncode == 0
    parser = Elements()
    parser.feed(page := (own_directory / "page.html").read_bytes().decode())
    assert (parser.found, controls_in(page)) == ([], [])
    assert "alert(1)" in page
    for kind in ("--csv", "--json"):
        done = hydratune("compare", *runs, kind)
        assert controls_in(done.stdout + done.stderr) == [], done.stderr
        if kind == "--csv":
            rows = list(csv.DictReader(io.StringIO(done.stdout)))
            assert {row["name"][:2] for row in rows} == {"'=", "'@"}
            assert {row["test/accuracy"] for row in rows} == {"-0.5"}
        else:
            assert {run["name"] for run in json.loads(done.stdout)["runs"]} == {f"={HOSTILE}", f"@{HOSTILE}"}
