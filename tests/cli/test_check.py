"""`hydratune check`: it reports errors of the data, prints the facts, and writes nothing."""

import pytest

from conftest import write_rows
from hydratune.cli.main import dispatch
from hydratune.utils.errors import ConfigError


def test_check_prints_facts_and_writes_nothing(toy, own_directory, capsys):
    """Also the command that trains."""
    before = sorted(own_directory.iterdir())
    assert dispatch(["check", *toy, "seed=7"]) == 0
    out = capsys.readouterr().out
    for value in ("32 train", "24 validation", "16 test", "p50 7", "50.0%", "seed=7", " 2 steps"):
        assert value in out
    assert sorted(own_directory.iterdir()) == before


def test_check_reports_errors_of_the_data(toy, own_directory):
    """With their lines, as a run does."""
    write_rows(own_directory / "validation.jsonl", [{"text": "good", "label": "pos"}, {"text": "", "label": "neg"}])
    with pytest.raises(ConfigError) as caught:
        dispatch(["check", *toy])
    assert "validation.jsonl:2" in [problem.source for problem in caught.value.problems]


def test_check_reports_a_metric_that_does_not_fit_the_labels(toy, own_directory):
    """F1 is for two labels, which only the data show."""
    rows = [{"text": "good", "label": label} for label in "abc"] * 2
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows)
    with pytest.raises(ConfigError) as caught:
        dispatch(["check", *toy, "task.metrics=[f1]", "objective=eval_f1"])
    assert [problem.key for problem in caught.value.problems] == ["task.metrics"]


@pytest.mark.parametrize("flags", [["-m", "seed=1,2"], ["--cfg", "job"], ["--dry-run"]])
def test_check_rejects_flags_of_other_modes(flags):
    """It checks one run."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["check", *flags])
    assert caught.value.problems[0].key.startswith("--")


def test_check_help_is_its_own(capsys):
    """Not that of training."""
    assert dispatch(["check", "--help"]) == 0
    assert "hydratune check" in capsys.readouterr().out
