"""Summary of a run in the terminal."""

import pytest

from hydratune.cli.run_summary import show
from hydratune.training.results import RunResult

METRICS = {"eval_loss": 0.5, "eval_f1": 0.9, "step": 1200}


@pytest.fixture
def lines(tmp_path, capsys):
    """Shows the summary of a run; returns the line with a label."""

    def of(label, metrics=METRICS, dataset=(), **args):
        cfg = {"objective": "eval_f1", "trainer": {"args": args}, "dataset": dict(dataset)}
        show(RunResult(0.9, metrics, tmp_path, None), cfg)
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith(label)]

    return of


@pytest.mark.parametrize(
    ("metrics", "args", "words"),
    [
        (METRICS, {"load_best_model_at_end": True}, ["best checkpoint", "validation f1", "step 1,200"]),
        (METRICS, {}, ["last checkpoint", "step 1,200"]),
        (METRICS | {"soup": [400, 800]}, {"load_best_model_at_end": True}, ["mean of the checkpoints", "400, 800"]),
    ],
)
def test_summary_names_the_checkpoint_that_was_measured(lines, metrics, args, words):
    """The metrics of a run are those of one set of parameters, which is not always the last one."""
    (line,) = lines("model", metrics, **args)
    assert all(word in line for word in words)


def test_summary_says_how_to_add_a_test_split(lines):
    """Validation has selected the checkpoint, so its score is too high; only settings of the dataset are named."""
    (line,) = lines("test", dataset={"files": {}, "test_size": 0})
    assert "dataset.files.test=FILE" in line
    assert "dataset.test_size=0.1" in line
    (line,) = lines("test", dataset={"name": "fixed"})
    assert "dataset." not in line
    assert lines("test", METRICS | {"test_loss": 0.5}) == []
