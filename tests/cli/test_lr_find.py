"""`hydratune lr-find` is a short sweep over learning rates that proposes the interval of a longer one."""

import re

import pytest

from hydratune.cli.main import dispatch
from hydratune.config.composition import Request
from hydratune.sweep.plan import make_plan
from hydratune.utils.errors import ConfigError

SMALL = ["hydra/launcher=basic", "tracking=none", "trainer.args.per_device_train_batch_size=4"]


def without_rate(overrides):
    """Overrides without a learning rate."""
    return [text for text in overrides if not text.startswith("trainer.args.learning_rate")]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["--low", "0"], ["--low"]),
        (["--low", "1", "--high", "0.1"], ["--low"]),
        (["--trials", "2", "--steps", "3"], ["--trials", "--steps"]),
        (["trainer.args.learning_rate=1e-4"], ["trainer.args.learning_rate"]),
        (["seed=1,2"], ["seed"]),
    ],
)
def test_lr_find_refuses_what_it_cannot_search(arguments, keys):
    """Errors come before anything is trained, with the option or the key."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["lr-find", *arguments])
    assert [problem.key for problem in caught.value.problems] == keys


def test_lr_find_dry_run_lists_the_trials(toy, capsys, own_directory):
    """Nothing is trained or proposed."""
    assert dispatch(["lr-find", "--dry-run", "--trials", "4", *without_rate(toy), *SMALL]) == 0
    out = capsys.readouterr().out
    assert "1e-06" in out
    assert "0.01" in out
    assert "proposed" not in out
    assert not (own_directory / "multirun").exists()


@pytest.mark.slow
def test_lr_find_proposes_an_interval_of_the_sweep_grammar(toy, capsys):
    """The proposal is an override that a sweep accepts; a second call trains nothing and proposes the same."""
    overrides = without_rate(toy)
    arguments = ["lr-find", "--trials", "4", "--steps", "8", "--low", "1e-5", "--high", "0.1", *overrides, *SMALL]
    proposals = []
    for _ in range(2):
        assert dispatch(arguments) == 0
        (proposal,) = re.findall(r"'(trainer\.args\.learning_rate=\S+)'", capsys.readouterr().out)
        proposals.append(proposal)
    assert proposals[0] == proposals[1]
    plan, _ = make_plan(Request((*overrides, "sweep=tpe", proposals[0])))
    (parameter,) = plan.space.parameters
    assert parameter.log
    assert 1e-5 <= parameter.low < parameter.high <= 0.1
