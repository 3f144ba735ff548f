"""Test of the difference between the best two configurations, for notes and reports."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hydratune.evaluation.compare.pairing import untested
from hydratune.evaluation.compare.runs import Run, run_of
from hydratune.evaluation.compare.verdict import SEED, configuration, differing, judge
from hydratune.evaluation.compare.wording import NOT_TESTED
from hydratune.tracking.run_directories import finish_command
from hydratune.utils.errors import ConfigError, one_line
from hydratune.utils.provenance import cli_path
from hydratune.utils.short_forms import metric_name, number_text, settings_text
from hydratune.utils.stats import MIN_SEEDS, PROPORTIONS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

    from hydratune.evaluation.compare.wording import Comparison

_MOST_RUNS = 50  # best runs that are compared
_LONGEST_LABEL = 60  # characters of the settings in which two runs differ
_LABEL_ID, _COMMAND_ID = 8, 12  # characters of an ID after a name that several runs have, and in a command
_MOST_ROWS = 2_000  # rows that are scored again in each resample; a proportion needs one pass


@dataclass(frozen=True)
class Significance:
    """Whether a difference is statistically significant.

    Args:
        sentences: The verdict, or why there is no test.
        commands: Purpose -> command.
        state: The verdict in a few words; empty if there is only one configuration.
    """

    sentences: Sequence[str]
    commands: dict[str, str]
    state: str = NOT_TESTED


def not_tested(reason: str, commands: dict[str, str] | None = None) -> Significance:
    """Return that a difference was not tested, and why."""
    return Significance([f"Significance not tested: {reason}"], commands or {})


def best_two(client: MlflowClient, records: Sequence[MlflowRun], metric: str) -> Significance:
    """Return the second best configuration, and whether the best one is significantly better.

    Configurations are ranked on validation, by their best run. They are compared on test rows, which no run selects on.

    Args:
        client: Client of the store.
        records: Finished runs with the metric, the best one on validation first.
        metric: Name of the metric on validation in the store, e.g. `best/accuracy`.
    """
    runs = named_runs(client, records[:_MOST_RUNS])
    groups: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        groups.setdefault(configuration(run), []).append(run)
    if len(groups) < 2:
        return Significance([], {}, "")
    first, second, *_ = groups.values()
    name, value = metric_name(metric.partition("/")[2]), number_text(second[0].metrics[metric])
    sentences = [f"Second best configuration: {name} {value} ({second[0].name})"]
    if missing := [group[0] for group in (first, second) if not _tested(group)]:
        sentences.append(f"Significance not tested: {_reason(missing)}")
        commands = {f"test {run.name}": command for run in missing if (command := _finish(run, runs))}
        others = [group for group in groups.values() if _tested(group)][:2]
        if len(others) == 2:
            verdict = significance(*_by_settings(*others))
            sentences += [f"Of the configurations with test predictions: {sentence}" for sentence in verdict.sentences]
            commands |= verdict.commands
        return Significance(sentences, commands)
    verdict = significance(*_by_settings(first, second))
    return replace(verdict, sentences=[*sentences, *verdict.sentences])


def _by_settings(first: Sequence[Run], second: Sequence[Run]) -> list[list[Run]]:
    """Return two configurations with the settings in which they differ as labels, unless these are long.

    A difference between one run each may be due to their seeds, which are in the labels then.
    """
    compared = _compared(first, second)
    pair = [group[0] for group in compared]
    names = [name for name in differing(pair) if name != SEED or max(map(len, compared)) == 1]
    labels = [settings_text({name: run.params.get(name, "unset") for name in names}) for run in pair]
    if len({*labels}) < 2 or max(map(len, labels)) > _LONGEST_LABEL:
        return [[*first], [*second]]
    return [[replace(run, label=label) for run in group] for label, group in zip(labels, compared, strict=True)]


def _compared(first: Sequence[Run], second: Sequence[Run]) -> list[list[Run]]:
    """Return the tested runs of two configurations that are compared: all with enough seeds, else the best one each."""
    groups = [_tested(first), _tested(second)]
    if any(len({run.seed for run in group}) < MIN_SEEDS for group in groups):
        return [group[:1] for group in groups]
    return groups


def named_runs(client: MlflowClient, records: Iterable[MlflowRun]) -> list[Run]:
    """Return runs with their names as labels; equal names get the beginning of the ID."""
    records = [*records]
    names = [str(record.info.run_name) for record in records]
    labels = [
        name if names.count(name) == 1 else f"{name} ({record.info.run_id[:_LABEL_ID]})"
        for name, record in zip(names, records, strict=True)
    ]
    return [run_of(label, record, client) for label, record in zip(labels, records, strict=True)]


def significance(first: Sequence[Run], second: Sequence[Run]) -> Significance:
    """Return whether two configurations differ on test: over their seeds if there are enough, else by one run each."""
    runs = [run for group in _compared(first, second) for run in group]
    command = shlex.join([cli_path(), "compare", *(run.id[:_COMMAND_ID] for run in runs)])
    if reason := _too_many_rows(runs):
        return not_tested(reason, {"test the difference": command})
    try:
        verdict = judge(runs, None)
    except ConfigError as error:  # `compare` would print it, too
        return not_tested(one_line(error, 200))
    if verdict.comparisons:
        return significance_of(verdict.comparisons[0], {"show the details of the test": command})
    reason = next(iter(verdict.remarks), "no test is possible").removeprefix(f"{NOT_TESTED}: ")
    return not_tested(reason, {"show the difference": command})


def significance_of(comparison: Comparison, commands: dict[str, str] | None = None) -> Significance:
    """Return a comparison as a sentence that begins with the verdict."""
    state = "significant" if comparison.better else NOT_TESTED if comparison.refusal else "not significant"
    text = comparison.sentence().removeprefix(f"{NOT_TESTED}: ").removeprefix("inconclusive: ")
    return Significance([f"{state.capitalize()}: {text}"], commands or {}, state)


def _tested(group: Sequence[Run]) -> list[Run]:
    return [run for run in group if any(name.startswith("test/") for name in run.metrics)]


def _too_many_rows(runs: Sequence[Run]) -> str:
    rows = max((run.row_counts.get("test", 0) for run in runs), default=0)
    if rows <= _MOST_ROWS or runs[0].metric in PROPORTIONS:
        return ""
    return f"a test of {runs[0].metric} on {rows:,} rows takes longer than a note should"


def _reason(missing: Sequence[Run]) -> str:
    trials = [run.label for run in missing if run.sweep]
    if len(trials) < len(missing):
        return untested(next(run for run in missing if not run.sweep))
    subject = f"{trials[0]} is a trial" if len(trials) == 1 else f"{' and '.join(trials)} are trials"
    return f"{subject}, and a sweep saves no predictions for test rows"


def _finish(run: Run, ranked: Sequence[Run]) -> str:
    """Return the command that retrains and tests a trial; empty for other runs."""
    if (sweep := run.sweep) is None or run.directory is None:
        return ""
    is_best = run is next(other for other in ranked if other.sweep == sweep)
    return finish_command(sweep, None if is_best else run.directory.absolute().relative_to(sweep).parts[0])
