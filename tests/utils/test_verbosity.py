"""`-q` and `-v`: what the terminal shows, with any command; a log file has everything."""

import io
import logging
import sys

import pytest

from hydratune.cli.main import dispatch
from hydratune.utils.errors import ConfigError
from hydratune.utils.logs import QUIET, VERBOSE, VERBOSITY, apply_verbosity, set_verbosity, shows_bars


@pytest.fixture
def logged(monkeypatch, tmp_path):
    """Logs a debug message, one of each level above, and one of a library; returns what terminal and file have."""

    def log(verbosity):
        monkeypatch.setenv(VERBOSITY, "")
        set_verbosity(verbosity)
        terminal, file = logging.StreamHandler(io.StringIO()), logging.FileHandler(tmp_path / "run.log")
        ours, root = logging.getLogger("hydratune.test"), logging.getLogger()
        monkeypatch.setattr(root, "handlers", [terminal, file])
        monkeypatch.setattr(root, "level", logging.INFO)
        monkeypatch.setattr(logging.getLogger("hydratune"), "level", logging.NOTSET)
        root.manager._clear_cache()
        apply_verbosity()
        for level in ("debug", "info", "warning"):
            getattr(ours, level)("a %s message", level)
        file.close()
        root.manager._clear_cache()
        return terminal.stream.getvalue(), (tmp_path / "run.log").read_text()

    return log


@pytest.mark.parametrize(
    ("verbosity", "shown", "stored"),
    [
        (None, {"info", "warning"}, {"info", "warning"}),
        (QUIET, {"warning"}, {"info", "warning"}),
        (VERBOSE, {"debug", "info", "warning"}, {"debug", "info", "warning"}),
    ],
)
def test_verbosity_selects_levels_of_the_terminal(logged, verbosity, shown, stored):
    """The file never has less than before."""
    terminal, file = logged(verbosity)
    assert {level for level in ("debug", "info", "warning") if f"a {level} message" in terminal} == shown
    assert {level for level in ("debug", "info", "warning") if f"a {level} message" in file} == stored


def test_verbose_lines_name_their_logger(logged):
    """To tell messages of libraries from ours."""
    assert "hydratune.test" in logged(VERBOSE)[0]


@pytest.mark.parametrize(("verbosity", "shows"), [(None, True), (QUIET, False), (VERBOSE, True)])
def test_quiet_hides_progress_bars(monkeypatch, verbosity, shows):
    """On a terminal."""
    monkeypatch.setenv(VERBOSITY, verbosity or "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert shows_bars() == shows


@pytest.mark.parametrize("flag", ["-q", "--quiet", "-v", "--verbose"])
@pytest.mark.parametrize("arguments", [["configs", "tracking"], ["--cfg", "job"]])
def test_flags_go_with_any_command(flag, arguments, monkeypatch, capsys):
    """Before and after its arguments; they change no result."""
    monkeypatch.setenv(VERBOSITY, "")
    for typed in ([flag, *arguments], [*arguments, flag]):
        assert dispatch(typed) == 0
    monkeypatch.undo()
    assert capsys.readouterr().out


def test_quiet_and_verbose_cannot_be_combined():
    """Neither of them wins."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["-q", "-v", "configs"])
    assert [problem.key for problem in caught.value.problems] == ["--quiet"]


@pytest.mark.slow
def test_quiet_run_prints_its_result_only(toy, capsys, monkeypatch):
    """No lines about data, model, and batches."""
    monkeypatch.setenv(VERBOSITY, "")
    monkeypatch.setattr(sys, "argv", ["hydratune"])
    assert dispatch(["-q", *toy, "tracking=none", "hydra.run.dir=run"]) == 0
    output = capsys.readouterr()
    assert "run:" not in output.err
    assert "accuracy" in output.out


def test_commands_without_a_run_label_warnings_too(monkeypatch, capsys):
    """Before Hydra configures logging, and in commands that do not use Hydra's."""
    monkeypatch.setenv(VERBOSITY, "")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    assert dispatch(["--version"]) == 0
    logging.getLogger("hydratune.data").warning("12 rows are duplicates")
    assert capsys.readouterr().err == "warning: 12 rows are duplicates\n"
