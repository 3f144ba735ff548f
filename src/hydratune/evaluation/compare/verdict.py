"""Verdict on several runs: the better run, the test, and the reasons for comparisons without a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hydratune.evaluation.compare.pairing import (
    check_pair,
    compare_pair,
    compare_with_best,
    different_rows,
    next_steps,
    rescored,
    untested,
)
from hydratune.evaluation.compare.runs import FINISHED, PLACES, NotComparableError, Run, measured
from hydratune.evaluation.compare.seeds import compare_groups
from hydratune.evaluation.compare.sets import metric_of_rows
from hydratune.evaluation.compare.wording import NOT_TESTED, Comparison, Group, Unit
from hydratune.tasks.metrics.metric import LOSS, Metric
from hydratune.training.results import BOOKKEEPING
from hydratune.utils.errors import ConfigError, Problem, similar
from hydratune.utils.short_forms import settings_text
from hydratune.utils.stats import PROPORTIONS, Scale, mean_interval

SEED = "seed"  # the only param in which the runs of a group differ
_NAME_LENGTH = 60
_OF_PRECISION = ("loss", "perplexity", "bits_per_byte")  # metrics that change with the precision alone
SPLIT_OF = {"test": "test", "best": "validation", "eval": "validation"}  # where a metric was measured -> the split


@dataclass
class Verdict:
    """The verdict on one metric.

    Args:
        metric: Name of the metric; empty if the runs have no common objective.
        definition: Direction and range of the metric.
        comparisons: Differences and their tests.
        groups: Groups of runs that differ only in their seed.
        remarks: Runs that were left out, and caveats.
    """

    metric: str
    definition: Metric = LOSS
    comparisons: list[Comparison] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Return the verdict as sentences, findings first."""
        findings = [
            *(group.sentence() for group in self.groups),
            *(comparison.sentence() for comparison in self.comparisons),
        ]
        return [*findings, *self.remarks]


def judge(runs: Sequence[Run], wanted: str | None) -> Verdict:
    """Compare finished runs by the metric `wanted`, or by the metric of their objective.

    Raises:
        ConfigError: If no run has the metric.
    """
    if wanted:
        _check_metric(runs, wanted)
    metric_by_label = {run.label: run.metric for run in runs if run.metric}
    if not wanted and len({*metric_by_label.values()}) != 1:
        got = ", ".join(f"{metric} of {label}" for label, metric in metric_by_label.items()) or "none"
        return Verdict("", remarks=[f"the runs have no objective in common ({got}): name one with --metric"])
    metric = wanted or next(iter(metric_by_label.values()))
    if (definition := _definition(runs, metric)) is None:
        return Verdict("", remarks=[f"the runs do not record, or do not agree, whether {metric} is maximized"])
    verdict = Verdict(metric, definition)
    finished = [run for run in runs if run.status == FINISHED]
    verdict.remarks += [f"{run.label} is {run.status} and was not tested" for run in runs if run not in finished]
    if not _check_precisions(finished, verdict):
        return verdict
    alike = configurations(finished)
    groups = [group for group in alike if len(group) > 1]
    if len(groups) > 1:
        verdict.remarks += _repeats(finished, alike)
        _judge_groups(groups, alike, verdict)
    elif len(groups) == len(alike) == 1 and len(finished) > 2:
        verdict.remarks += _repeats(finished, alike)
        _describe_groups(groups, finished, verdict)
        verdict.remarks.append("the runs differ only in their seed: there is no other configuration to compare with")
    elif len(finished) == 2:
        _judge_pair(finished[0], finished[1], verdict)
    elif len(finished) > 2:
        _judge_against_best(finished, verdict)
    verdict.remarks += next_steps(finished)
    return verdict


def _definition(runs: Sequence[Run], metric: str) -> Metric | None:
    """Return the common definition of a metric; None if runs disagree on the direction or do not define it."""
    definitions = [definition for run in runs if (definition := run.definition(metric)) is not None]
    return definitions[0] if len({definition.higher_is_better for definition in definitions}) == 1 else None


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the params that differ between runs, in the order of the runs' params."""
    names = dict.fromkeys(name for run in runs for name in run.params)
    return [name for name in names if len({run.params.get(name) for run in runs}) > 1]


def _check_metric(runs: Sequence[Run], metric: str) -> None:
    names_by_run = [dict.fromkeys(_known(run, metric)) for run in runs]
    if any(metric in names for names in names_by_run):
        return
    shared = [name for name in names_by_run[0] if all(name in names for names in names_by_run)]
    listed = f"metrics that all of these runs have: {', '.join(shared)}" if shared else ""
    close = similar("metric", metric, shared, " ").strip()
    hint = "\n".join(filter(None, (close, listed)))
    raise ConfigError(Problem("--metric", f"unknown metric {metric!r}", hint))


def _known(run: Run, metric: str) -> Iterator[str]:
    """Yield the metrics that a run recorded, and those that its predictions can be scored with."""
    measured_here = (key.partition("/") for key in run.metrics)
    yield from (name for place, _, name in measured_here if place in PLACES and not name.endswith(BOOKKEEPING))
    if not run.rows:
        return
    try:
        row_metrics = run.task(metric).row_metrics(run.label_names)
        yield from row_metrics
        if metric_of_rows(run, metric).name in row_metrics:
            yield metric
    except NotComparableError:
        return


def _check_precisions(runs: Sequence[Run], verdict: Verdict) -> bool:
    """Return whether the precisions of the evaluations allow a comparison; add a remark if precisions differ."""
    precisions = {run.label: run.eval_precision for run in runs if run.eval_precision}
    if len({*precisions.values()}) < 2:
        return True
    details = ", ".join(f"{label} in {precision}" for label, precision in precisions.items())
    if verdict.metric in _OF_PRECISION:
        verdict.remarks.append(
            f"{verdict.metric} depends on the precision of the evaluation, which differs ({details}): not compared"
        )
        return False
    verdict.remarks.append(
        f"the runs were evaluated in different precisions ({details}), which may explain a difference"
    )
    return True


# --- runs on the same rows -------------------------------------------------------------------------------


def _judge_pair(first: Run, second: Run, verdict: Verdict) -> None:
    try:
        verdict.comparisons.append(compare_pair(first, second, _unit(verdict)))
    except NotComparableError as error:
        verdict.remarks.append(_not_tested(first, second, verdict, str(error)))


def _not_tested(first: Run, second: Run, verdict: Verdict, reason: str) -> str:
    """Return why two runs are not tested, and their difference if both have the metric in the same place."""
    sentence = f"{NOT_TESTED}: {reason}"
    if not (place := measured([first, second], verdict.metric)):
        return sentence
    name = f"{place}/{verdict.metric}"
    difference = _unit(verdict).difference(first.label, second.label, second.metrics[name] - first.metrics[name])
    return f"{sentence}; {difference} ({SPLIT_OF[place]} {verdict.metric})"


def _judge_against_best(runs: Sequence[Run], verdict: Verdict) -> None:
    """Compare each run with the best one, if both were tested on the same rows."""
    values = {run.label: value for run in runs if (value := _on_test(run, verdict.metric)) is not None}
    if len(values) < 2:
        reason = untested(next(run for run in runs if run.label not in values))
        verdict.remarks.append(f"{NOT_TESTED}: fewer than two runs have {verdict.metric} on a test set; {reason}")
        return
    select = max if verdict.definition.higher_is_better else min
    best_label = select(values, key=lambda label: values[label])
    (best,) = (run for run in runs if run.label == best_label)
    comparable = [best]
    for run in runs:
        if run is not best:
            try:
                check_pair(run, best, verdict.metric)
                comparable.append(run)
            except NotComparableError as error:
                verdict.remarks.append(_not_tested(run, best, verdict, str(error)))
    comparable.sort(key=runs.index)
    if len(comparable) == 2:
        (other,) = (run for run in comparable if run is not best)
        _judge_pair(other, best, verdict)
    elif len(comparable) > 2:
        verdict.comparisons += compare_with_best(comparable, best, _unit(verdict))
        verdict.remarks.append(
            f"{best.label} was selected on these test rows, so the comparisons are adjusted for all pairs of runs"
        )


def _on_test(run: Run, metric: str) -> float | None:
    """Return a metric on test as recorded, or else computed from the predictions; None if neither exists."""
    if f"test/{metric}" in run.metrics:
        return run.metrics[f"test/{metric}"]
    try:
        return rescored(run, metric) if run.rows else None
    except (NotComparableError, KeyError):
        return None


def _unit(verdict: Verdict) -> Unit:
    metric = verdict.definition
    return Unit(verdict.metric, metric.is_share, Scale(metric.low, metric.high), metric.higher_is_better)


# --- groups of seeds -------------------------------------------------------------------------------------


def configurations(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs that differ only in their seed, with the newest run of each seed."""
    runs_by_configuration: dict[frozenset[tuple[str, str]], dict[str, Run]] = {}
    for run in sorted(runs, key=lambda run: run.record.info.start_time):
        runs_by_configuration.setdefault(configuration(run), {})[run.seed] = run
    return sorted(
        (list(seeds.values()) for seeds in runs_by_configuration.values()), key=lambda group: runs.index(group[0])
    )


def configuration(run: Run) -> frozenset[tuple[str, str]]:
    """Return what two runs that differ only in their seed have in common.

    Params hold the resolved values of everything that determines a training, and digests identify its rows.
    """
    digests = {f"digest of {split}": digest for split, digest in run.digests.items()}
    return frozenset((name, value) for name, value in {**run.params, **digests}.items() if name != SEED)


def _repeats(runs: Sequence[Run], configurations: Sequence[list[Run]]) -> list[str]:
    newest = [run for group in configurations for run in group]
    return [f"{run.label} was run again with the same seed and does not count" for run in runs if run not in newest]


def _describe_groups(groups: Sequence[list[Run]], runs: Sequence[Run], verdict: Verdict) -> bool:
    """Add the mean of each group to the verdict; return False if the runs have no common place of the metric."""
    group_runs = [run for group in groups for run in group]
    place = measured(group_runs, verdict.metric)
    if not place:
        verdict.remarks.append(f"not all runs have measured {verdict.metric} in the same place: seeds are not compared")
        return False
    param_names = [name for name in differing(runs) if name != SEED]
    unit = _unit(verdict)
    for group in groups:
        values = {run.seed: run.metrics[f"{place}/{verdict.metric}"] for run in group}
        rows = group[0].row_counts.get(SPLIT_OF[place]) if verdict.metric in PROPORTIONS else None
        interval = mean_interval([*values.values()], replace(unit.scale, rows=rows))
        verdict.groups.append(Group(_called(group, param_names), values, verdict.metric, place, interval))
    return True


def _called(group: Sequence[Run], param_names: Sequence[str]) -> str:
    """Return the name of a group: its values of differing params, and the letters of its runs."""
    letters = ", ".join(run.label for run in group)
    settings = settings_text({name: group[0].params.get(name, "unset") for name in param_names})
    return f"{settings} ({letters})" if 0 < len(settings) <= _NAME_LENGTH else letters


def _judge_groups(groups: Sequence[list[Run]], configurations: Sequence[list[Run]], verdict: Verdict) -> None:
    """Compare each pair of groups."""
    group_runs = [run for group in groups for run in group]
    if ungrouped := [group[0].label for group in configurations if len(group) == 1]:
        verdict.remarks.append(f"{', '.join(ungrouped)}: no other seed, so not tested against the groups of seeds")
    if not _describe_groups(groups, [group[0] for group in configurations], verdict):
        return
    if verdict.groups[0].place == "test" and (reason := _unlike(group_runs)):
        verdict.remarks.append(reason)
        return
    comparisons, remarks = compare_groups(verdict.groups, _unit(verdict))
    verdict.comparisons += comparisons
    verdict.remarks += remarks


def _unlike(runs: Sequence[Run]) -> str:
    return next((reason for run in runs[1:] if (reason := different_rows(runs[0], run))), "")
