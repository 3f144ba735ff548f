"""Parsers of the command line."""

import pytest

from hydratune.utils.arguments import ArgumentParser, parse_overrides


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


@pytest.mark.parametrize("flag", ["-n", "--dry-run", "--dry"])
def test_parse_overrides_reads_a_dry_run(flag):
    """Overrides may precede and follow the flag."""
    flags = parse_overrides(["seed=1", flag, "name=x"])
    assert (flags.dry_run, flags.overrides) == (True, ["seed=1", "name=x"])
