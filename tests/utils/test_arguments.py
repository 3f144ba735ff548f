"""Parsers of the command line."""

import pytest

from hydratune.utils.arguments import ArgumentParser


def parser():
    """A parser with two options."""
    made = ArgumentParser(prog="hydratune predict")
    made.add_argument("--max-samples")
    made.add_argument("--uri")
    return made


@pytest.mark.parametrize(("typed", "hint"), [("--max-smples", "--max-samples"), ("--lmit", "hydratune predict --help")])
def test_unknown_option_names_a_similar_one(typed, hint, capsys):
    """An option without a similar one refers to the help, and is not answered by a wrong guess."""
    with pytest.raises(SystemExit) as end:
        parser().parse_args([typed, "3"])
    assert end.value.code == 2
    error, line = capsys.readouterr().err.splitlines()
    assert typed in error
    assert hint in line


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ([], "RUN and FILE are required"),
        (["run"], "FILE is required"),
        (["run", "f", "--last", "x"], "--last must be an integer, not 'x'"),
        (["run", "f", "--on-bad-rows", "no"], "skip"),
        (["run", "f", "--uri"], "--uri requires a value"),
        (["run", "f", "--json", "--csv"], "--csv and --json"),
    ],
)
def test_invalid_arguments_are_named(typed, named, capsys):
    """The message of argparse is reworded; an argument that may be missing is not required."""
    made = parser()
    made.add_argument("run", metavar="RUN")
    made.add_argument("file", metavar="FILE")
    made.add_argument("overrides", metavar="KEY=VALUE", nargs="*")
    made.add_argument("--last", type=int)
    made.add_argument("--on-bad-rows", choices=("error", "skip"))
    output = made.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true")
    output.add_argument("--csv", action="store_true")
    with pytest.raises(SystemExit) as end:
        made.parse_intermixed_args(typed)
    assert end.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and named in error
    assert "KEY=VALUE" not in error and "argument" not in error
    assert "hydratune predict --help" in hint


def test_options_are_not_abbreviated(capsys):
    """The beginning of an option could be another option than the user means; the error names the whole one."""
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["--max-sample", "3"])
    assert end.value.code == 2
    assert "--max-samples" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["new.csv"], ["new.jsonl", "--uri", "x"], ["--uri", "x", "data/new.parquet"]])
def test_a_file_without_a_run_is_answered_with_the_command(words, capsys):
    """The hint has a run before the file."""
    made = parser()
    for name in ("run", "file"):
        made.add_argument(name, metavar=name.upper())
    with pytest.raises(SystemExit):
        made.parse_args(words)
    output = capsys.readouterr().err
    assert "RUN is required" in output
    file = next(word for word in words if "new" in word)
    assert f"hydratune predict latest {file}\n" in output


@pytest.mark.parametrize(
    ("operands", "option", "hint"),
    [
        (["RUN", "FILE", "KEY=VALUE"], "--data", "hydratune predict RUN FILE"),
        (["RUN", "KEY=VALUE"], "--test-file", "dataset.files.test=VALUE"),
        (["RUN", "KEY=VALUE"], "--label", "dataset.columns.label=VALUE"),
        (["RUN"], "--label", "hydratune predict --help"),
        (["RUN", "FILE"], "--input", "hydratune predict RUN FILE"),
        (["RUN", "FILE"], "-i", "hydratune predict RUN FILE"),
        (["RUN", "KEY=VALUE"], "--input", "dataset.files.test=VALUE"),
        (["RUN", "FILE"], "--model", "hydratune predict RUN FILE"),
        (["RUN", "KEY=VALUE"], "--model-path", "hydratune predict RUN"),
        (["NAME"], "--model", "hydratune predict --help"),
    ],
)
def test_options_of_other_tools_name_the_operand(operands, option, hint, capsys):
    """An option that is a key or a file here is answered by what to type."""
    made = ArgumentParser(prog="hydratune predict")
    for name in operands:
        made.add_argument(name.lower(), metavar=name, nargs="*" if "=" in name else None)
    with pytest.raises(SystemExit):
        made.parse_args([*(name.lower() for name in operands if "=" not in name), option])
    assert hint in capsys.readouterr().err
