"""The interval of learning rates that short trials propose."""

import pytest

from hydratune.sweep.lr_interval import RateTrial, propose

RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def trials(*scores, pruned=()):
    """Complete trials at RATES with these scores after two evaluations; some were pruned after the first."""
    return [
        RateTrial(rate, {1: score / 2} if i in pruned else {1: score / 2, 2: score}, i not in pruned)
        for i, (rate, score) in enumerate(zip(RATES, scores, strict=True))
    ]


def interval(found, metric="eval_f1", maximize=True, rows=None):
    """The ends of the proposal."""
    proposal = propose(found, 1e-7, 0.1, metric, maximize, rows)
    return proposal.low, proposal.high


def test_propose_ends_between_good_and_bad_rates():
    """The ends are halfway to the next rates on a logarithmic scale, rounded to one digit."""
    assert interval(trials(0.1, 0.2, 0.9, 0.89, 0.3)) == (3e-5, 4e-3)  # 3.16e-5 and 3.16e-3


def test_propose_finds_the_lowest_loss():
    """With an objective to minimize, the best score is the lowest."""
    assert interval(trials(3.0, 0.4, 0.41, 2.0, 9.0), "eval_loss", maximize=False) == (3e-6, 4e-4)


def test_propose_compares_pruned_trials_at_their_last_evaluation():
    """A pruned trial that was as good by then belongs to the interval; a worse one does not."""
    assert interval(trials(0.1, 0.9, 0.9, 0.2, 0.1, pruned=(1, 3))) == (3e-6, 4e-4)


def test_propose_excludes_diverged_trials():
    """A loss that is not finite is not good, and does not make the tolerance infinite."""
    nan = float("nan")
    assert interval(trials(3.0, 1.0, 0.5, nan, nan), "eval_loss", maximize=False) == (3e-5, 4e-4)


def test_propose_stops_at_the_first_worse_rate():
    """A good rate behind a bad one does not widen the interval."""
    assert interval(trials(0.9, 0.1, 0.9, 0.1, 0.1))[1] == 4e-6


@pytest.mark.parametrize(("rows", "expected"), [(100, (3e-6, 4e-3)), (100_000, (3e-5, 4e-4))])
def test_propose_uses_the_standard_error_of_an_accuracy(rows, expected):
    """Rates that a small validation set cannot tell apart are as good."""
    assert interval(trials(0.7, 0.88, 0.9, 0.88, 0.8), "eval_accuracy", rows=rows) == expected


def test_propose_reports_the_ends_of_the_search():
    """If the best rates reach an end, other rates may be better."""
    proposal = propose(trials(0.9, 0.9, 0.1, 0.1, 0.1), 1e-6, 1e-2, "eval_f1", True, None)
    assert (proposal.low, proposal.reaches_low, proposal.reaches_high) == (1e-6, True, False)


def test_propose_needs_a_complete_trial():
    """Pruned trials alone show no best rate."""
    assert propose(trials(0.1, 0.2, 0.3, 0.4, 0.5, pruned=range(5)), 1e-7, 1, "eval_f1", True, None) is None
