"""`runs`, `show`, and `env`: what they print about run directories and the machine."""

import errno
import json
import os
import shlex

import pytest

from hydratune.cli.main import dispatch
from hydratune.cli.run_status import format_age, run_status
from hydratune.cli.run_summary import details
from hydratune.tracking.journal import JOURNAL
from hydratune.tracking.run_directories import find_runs
from hydratune.utils import process
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PLAN, try_lock
from hydratune.utils.report_page import REPORT_PAGE

HYDRA = """hydra:
  runtime:
    cwd: /project
    config_sources: []
    choices: {dataset: digits, task: image_classification, model: vit_tiny, experiment: null}
"""


@pytest.fixture
def make_run(own_directory):
    """Makes the directory of a run that began so many seconds ago."""

    def make(name, age=0, score=None, status=None, text="objective: eval_accuracy\nname: digits\n"):
        directory = own_directory / "outputs" / "digits" / name
        (directory / ".hydra").mkdir(parents=True)
        (directory / ".hydra" / "hydra.yaml").write_text(HYDRA)
        (directory / ".hydra" / "overrides.yaml").write_text("- ++seed=7\n")
        (directory / ".hydra" / "config.yaml").write_text(text)
        (directory / "overrides.yaml").write_text("- seed=7\n")
        (directory / ".lock").touch()
        began = (directory / ".lock").stat().st_mtime - age
        os.utime(directory / ".lock", (began, began))
        (directory / "config.yaml").write_text(text)
        if score is not None:
            (directory / "metrics.json").write_text(json.dumps({"eval_accuracy": score, "eval_loss": 1.0}))
        if status:
            entry = {"kind": "status", "status": status, "ended": 1}
            (directory / JOURNAL).write_text(json.dumps(entry) + "\n")
        return directory

    return make


@pytest.mark.parametrize(
    ("score", "status", "state"),
    [
        (0.5, "FINISHED", "finished"),
        (None, "FAILED", "failed"),
        (None, "KILLED", "interrupted"),
        (None, None, "interrupted"),
        (None, "FINISHED", "finished"),
    ],
)
def test_run_status_is_that_of_the_directory(make_run, score, status, state):
    """Metrics are written last; without them, the journal says how the run ended, if it says so."""
    run = run_status(make_run("a", score=score, status=status))
    assert (run.state, run.score, run.objective) == (state, score, "eval_accuracy")


def test_runs_breaks_no_path_on_a_narrow_terminal(make_run, monkeypatch, capsys):
    """A path can be pasted from a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    directory = make_run("a" * 100, score=0.5)
    assert dispatch(["runs"]) == 0
    assert os.path.relpath(directory) in capsys.readouterr().out.split()


def test_run_status_of_a_locked_directory_is_running(make_run):
    """Whatever the journal of an earlier process says."""
    directory = make_run("a", status="FAILED")
    with try_lock(directory):
        assert run_status(directory).state == "running"
    assert run_status(directory).state == "failed"


@pytest.fixture
def make_trial(own_directory):
    """Makes the directory of a trial, which has neither a lock nor `.hydra/`, with the entries of its journal."""

    def make(*entries):
        directory = own_directory / "multirun" / "s" / "0"
        directory.mkdir(parents=True)
        (directory.parent / PLAN).write_text("{}")
        (directory / "config.yaml").write_text("objective: eval_accuracy\n")
        (directory / "overrides.yaml").write_text("- seed=7\n")
        (directory / JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return directory

    return make


def _begin(tags):
    return {"kind": "run", "key": "k", "experiment": "e", "name": "n", "tags": tags, "began": 1, "uri": "u"}


@pytest.mark.parametrize(
    ("entries", "state"),
    [
        ([_begin(process.tags())], "running"),
        ([_begin({**process.tags(), process.PROCESS: "1 0"})], "interrupted"),
        ([_begin(process.tags()), {"kind": "status", "status": "FAILED", "ended": 1}], "failed"),
        (
            [
                _begin(process.tags()),
                {"kind": "tags", "tags": {"hydratune.state": "PRUNED"}},
                {"kind": "status", "status": "KILLED", "ended": 1},
            ],
            "pruned",
        ),
        ([], "interrupted"),
    ],
)
def test_run_status_of_a_trial_is_that_of_its_journal(make_trial, entries, state):
    """Its journal names the process that trains it."""
    directory = make_trial(*entries)
    assert run_status(directory).state == state
    assert find_runs([directory.parents[1]]) == [directory]


def test_show_of_a_trial_prints_its_command(make_trial, capsys):
    """It has no command to resume it, since the sweep does."""
    assert dispatch(["show", str(make_trial())]) == 0
    out = capsys.readouterr().out
    assert "hydratune seed=7" in out
    assert "resume" not in out


@pytest.mark.parametrize("text", ["", "- a list\n", "a: [\n"])
def test_run_status_survives_a_broken_config(make_run, text):
    """Other runs are listed nevertheless."""
    run = run_status(make_run("a", score=0.5, text=text))
    assert (run.state, run.name, run.score) == ("finished", "", None)


def test_run_status_survives_a_journal_that_cannot_be_read(make_run, monkeypatch):
    """One run of another user does not hide the others."""

    def fail(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    directory = make_run("a", status="FAILED")
    monkeypatch.setattr("hydratune.tracking.journal.open_stored", fail)
    assert run_status(directory).state == "interrupted"


def test_run_status_reads_no_texts_of_nested_lists(make_run):
    """Ten lines of aliases stand for 10^10 values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{p}'] * 10)}]" for p, n in zip("abcdefghi", "bcdefghij", strict=True)]
    run = run_status(make_run("a", score=0.5, text="\n".join([*lines, "objective: *j", "name: *j"])))
    assert (run.name, run.objective, run.score) == ("", "", None)


@pytest.mark.parametrize("name", ["metrics.json", "mlflow.json", "tracking.jsonl"])
def test_run_status_survives_deeply_nested_json(make_run, name):
    """Python's parser raises RecursionError."""
    run = make_run("a", status="FAILED")
    (run / name).write_text("[" * 100_000 + "\n")
    assert run_status(run).state == ("interrupted" if name == "tracking.jsonl" else "failed")


def test_runs_lists_the_newest_first(make_run, capsys):
    """With `--last`, the older ones are counted."""
    for number in range(3):
        make_run(str(number), age=100 * number, score=number / 10)
    assert dispatch(["runs", "--last", "2", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(os.path.basename(run["directory"]), run["score"]) for run in listed] == [("0", 0.0), ("1", 0.1)]  # noqa: PTH119
    assert dispatch(["runs", "--last", "2"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[1:]] == ["outputs/digits/0", "outputs/digits/1"]
    assert "2 of 3" in printed.err


def test_runs_without_runs_succeeds(own_directory, capsys):
    """A new project has none."""
    assert dispatch(["runs"]) == 0
    assert capsys.readouterr().out
    assert list(own_directory.iterdir()) == []


@pytest.mark.parametrize(("arguments", "key"), [(["nowhere"], "DIR"), (["--last", "0"], "--last")])
@pytest.mark.usefixtures("own_directory")
def test_runs_rejects_invalid_arguments(arguments, key):
    """An error names the argument."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["runs", *arguments])
    assert [problem.key for problem in caught.value.problems] == [key]


def test_show_lists_changed_settings_and_how_to_load_the_model(make_run, capsys):
    """A setting is listed with the default of its option; the model is loaded as its card says."""
    directory = make_run(
        "a", score=0.5, text="objective: eval_accuracy\nname: digits\nseed: 7\ntrainer: {args: {seed: 7}}\n"
    )
    (directory / "model").mkdir()
    (directory / "model" / "README.md").write_text(f"# x\n\n```python\n{LOADING_CODE}\n```\n")
    assert dispatch(["show", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "hydratune seed=7" in out
    assert "seed=7  (default: 42)" in out
    assert "trainer.args.seed" not in out  # its default is the seed of the run
    assert 'pipeline("text-classification", model=folder)' in out
    assert "0.5000" in out


def test_show_names_the_command_that_resumes(make_run, capsys):
    """For a run that did not finish."""
    directory = make_run("a", status="KILLED")
    assert dispatch(["show", str(directory)]) == 0
    assert f"hydratune resume {directory}" in capsys.readouterr().out


MALFORMED = ["", "[]", "null", "3", '"x"', '["a"]', '{"eval_accuracy": "x"}', "{", "[" * 100_000]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_show_of_malformed_metrics_is_one_error(make_run, text):
    """A full disk or someone else has written them."""
    run = make_run("a", score=1.0, status="FINISHED")
    (run / "metrics.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        dispatch(["show", str(run)])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


NODES = ["", "[]", "hydra: 3", "hydra: {runtime: []}", "hydra: {runtime: {cwd: /x}}",
         "hydra: {runtime: {cwd: /x, config_sources: [3]}}", "hydra: {runtime: {cwd: /x, config_sources: 3}}",
         "hydra: {runtime: {cwd: /x, config_sources: [], choices: 3}}",
         "hydra: {job: 3, runtime: {cwd: /x, config_sources: []}}",
         "hydra: {job: {config_name: '${oc.env:HOME}'}, runtime: {cwd: /x, config_sources: []}}",
         "hydra: {runtime: {cwd: '${oc.env:HOME}', config_sources: []}}"]  # fmt: skip


@pytest.mark.parametrize("text", NODES)
@pytest.mark.parametrize("command", ["show", "resume"])
def test_node_that_hydra_did_not_write_is_one_error(make_run, command, text):
    """A command reads from it where the run was started, and its configs; nothing in it is resolved."""
    run = make_run("a")
    (run / ".hydra" / "hydra.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        dispatch([command, str(run)])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


CARD_CODE = [
    "import os",
    "from transformers import AutoModel; import os",
    "from transformers import AutoModel  # noqa",
    "from os import system",
    'folder = "x"; __import__("os").system("x")',
    'folder = "x" + open("y").read()',
    'folder = "\\N{SPACE}"',
    'model = pipeline("x", model=folder, trust_remote_code=True)',
    "model, tokenizer = os.system.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)",
    'model, tokenizer = AutoModel.from_pretrained("me/evil"), AutoTokenizer.from_pretrained(folder)',
    "!curl http://example | sh",
    "model = adapters.load(folder)()",
]
LOADING_CODE = (
    'from transformers import pipeline\nfolder = "elsewhere"\nmodel = pipeline("text-classification", model=folder)'
)


@pytest.mark.parametrize("line", ["", *CARD_CODE])
def test_show_prints_no_code_of_someone_else(make_run, capsys, line):
    """Users paste the lines that load a model; the control has only lines that hydratune writes."""
    directory = make_run("a", score=0.5)
    (directory / "model").mkdir()
    code = f"{LOADING_CODE}\n{line}" if line else LOADING_CODE
    (directory / "model" / "README.md").write_text(f"# x\n\n```python\n{code}\n```\n")
    assert dispatch(["show", str(directory)]) == 0
    output = capsys.readouterr().out
    assert ("pipeline(" in output) == (not line)
    assert not line or line not in output
    assert "elsewhere" not in output


def test_show_quotes_the_directory_in_commands(make_run, capsys):
    """A cloned project chooses the names of its directories."""
    directory = make_run("a; touch x")
    assert dispatch(["show", str(directory)]) == 0
    assert f"hydratune resume {shlex.quote(str(directory))}" in capsys.readouterr().out


@pytest.mark.usefixtures("own_directory")
def test_show_of_another_directory_is_an_error():
    """A directory without a run."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["show", "."])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


def test_env_masks_secrets(capsys, monkeypatch):
    """The addresses in variables of the environment may have passwords."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter22@example.org")
    assert dispatch(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"hydratune", "torch", "platform", "cpu", "gpu", "MLFLOW_TRACKING_URI"} <= {*facts}
    assert "hunter22" not in json.dumps(facts)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (172_800, "2 d"), (-1, "0 s")]
)
def test_format_age_uses_the_largest_unit(seconds, text):
    """Units of days, hours, minutes, and seconds."""
    assert format_age(seconds) == text


def test_show_has_the_labels_and_the_report_of_the_summary(make_run, capsys):
    """What a run prints at its end can be printed again."""
    directory = make_run("a", score=0.5)
    (directory / "tables").mkdir()
    (directory / "tables" / "per_label.csv").write_text("label,p,r,f1,support\nx,1,1,0.9,3\ny,1,1,0.2,3\n")
    (directory / REPORT_PAGE).touch()
    lines = [*details(directory)]
    assert [name for name, _ in lines] == ["labels", "report"]
    assert dispatch(["show", str(directory)]) == 0
    out = capsys.readouterr().out
    assert all(text in out for _, text in lines)
