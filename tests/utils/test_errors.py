"""Messages have one form and name the nearest valid name."""

import shlex
from contextlib import nullcontext

import pytest

from hydratune.utils.errors import (
    KEY,
    NODE,
    ConfigError,
    Problem,
    mapping_setting,
    nearest,
    one_of,
    optional_record,
    setting,
    similar,
)


def test_problem_names_place_key_and_hints():
    """On one line, as in a log; the terminal prints each hint on a line of its own."""
    problem = Problem("objective", f"{KEY} must be 'eval_loss', not 'loss'", "set a\nset b", "my.yaml:3")
    assert problem.message == "my.yaml:3: objective must be 'eval_loss', not 'loss'"
    assert problem.hints == ["set a", "set b"]
    assert str(problem) == "my.yaml:3: objective must be 'eval_loss', not 'loss' (hint: set a; set b)"


def test_under_prefixes_the_key():
    """A part's error is reported under the part's own key; one about the part itself, as the part."""
    assert Problem("files", "a").under("dataset").key == "dataset.files"
    assert Problem("", "a").under("dataset").key == "dataset"


def test_under_completes_other_keys_of_the_node():
    """A hint about another key of a part names it in full wherever the part is."""
    problem = Problem("header", f"no {NODE}columns", f"set {setting(f'{NODE}names', 'a b')}")
    assert problem.message == "no columns"
    nested = problem.under("sources.a").under("dataset")
    assert nested.message == "no dataset.sources.a.columns"
    assert nested.hints == ["set 'dataset.sources.a.names=\"a b\"'"]


def test_moved_replaces_the_path_of_the_node():
    """An error that a dataset raises has the keys of the place where it is."""
    problem = Problem("header", f"{KEY} needs {NODE}columns", f"set {NODE}names").under("dataset")
    moved = problem.moved("dataset", "dataset.sources.a")
    assert moved == Problem("header", problem_text := f"{KEY} needs {NODE}columns", f"set {NODE}names").under(
        "dataset.sources.a"
    )
    assert moved.moved("dataset.sources.a", "") == Problem("header", problem_text, f"set {NODE}names")
    assert Problem("dataset", "x").moved("dataset", "dataset.sources.a").key == "dataset.sources.a"
    assert Problem("datasets.x", "x").moved("dataset", "y").key == "datasets.x"


def test_says_each_error_once():
    """The same error found twice is one line."""
    problem = Problem("a", "b", "c", "d")
    assert str(ConfigError(problem, problem)).count("\n") == 0


@pytest.mark.parametrize(("typed", "meant"), [("learning_rat", "learning_rate"), ("wordnt", "wordnet_supersense")])
def test_nearest(typed, meant):
    """A typo finds its word."""
    assert nearest(typed, ["learning_rate", "wordnet_supersense", "seed"]) == meant


def test_nothing_near():
    """Nothing is suggested where nothing is alike."""
    assert similar("key", "xyz", ["learning_rate"], "read the docs") == "read the docs"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["b"], "'b'"),
        (["b", "a"], "'a' or 'b'"),
        (["b", "a", 3], "3, 'a', or 'b'"),
        ("abcdefghi", "one of 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ... (9 in total)"),
    ],
)
def test_one_of_lists_at_most_eight_options(options, text):
    """A longer list is cut, or replaced by the command that shows it."""
    assert one_of(options) == text
    assert ("`c`" in one_of(options, "c")) == (len(options) > 8)


def test_optional_record_continues(caplog):
    """A failure is logged with the name of the record and the reason."""
    with optional_record("plot.png"):
        raise ValueError("no paint")
    (message,) = caplog.messages
    assert "plot.png" in message
    assert "no paint" in message


@pytest.mark.parametrize("error", [ConfigError(Problem("a", "b", "c", "d")), KeyboardInterrupt(), SystemExit(1)])
def test_optional_record_raises_what_is_no_failure_of_it(error):
    """Errors that the user must fix and requests to end are raised."""
    with pytest.raises(type(error)), optional_record("plot.png"):
        raise error


def test_optional_record_raises_own_invariants():
    """A failed assert of this package is a bug to be seen; one of a library is not."""
    check = "def check(): assert False\n"
    for module, raised in (("hydratune.training.tables", True), ("matplotlib.axis", False)):
        scope = {"__name__": module}
        exec(check, scope)  # noqa: S102
        with pytest.raises(AssertionError) if raised else nullcontext(), optional_record("plot.png"):
            scope["check"]()


@pytest.mark.parametrize(
    "value",
    [
        "label",
        " label",
        "a b",
        "true",
        "0",
        "01",
        "it's",
        'say "x"',
        "$HOME",
        "a\\",
        'b\\"',
        "x=1",
        "[a]",
        "a,b",
        "ö",
        "a/b-1.csv",
        "/a/b",
        "/",
        "./a",
    ],
)
def test_setting_can_be_pasted(value):
    """The shell and Hydra read the same text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (typed,) = shlex.split(setting("a.b", value))
    assert str(OverridesParser.create().parse_override(typed).value()) == value
    (typed,) = shlex.split(mapping_setting("a.b", {1: value, 2: "x"}))
    assert OverridesParser.create().parse_override(typed).value() == {1: value, 2: "x"}


@pytest.mark.parametrize(
    "name", ["$(touch x)", "`x`", "a;b", "a'b", 'a"b', "a|b", "a&b", "a>b", "{a,b}", "!x", "#", "a\nb", "*"]
)
def test_hint_has_no_key_that_a_shell_would_run(name):
    """Someone else's run can have such a name of a set or a source, and hints are pasted."""
    key = f"dataset.sources.{name}.files"
    hint = f"type {setting(KEY, '/x')}\nread the docs\nset {KEY}=null"
    assert Problem(key, "text", hint).hints == ["read the docs"]
    assert setting(key, "/x") == shlex.quote(f"{key}=/x")
    assert Problem("dataset.sources.a-b.files[0]", "text", f"type {setting(KEY, '/x')}").hints == [
        "type dataset.sources.a-b.files[0]=/x"
    ]
