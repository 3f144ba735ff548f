"""Time until hydratune is as accurate as the Hugging Face course's script: `python benchmarks/time_to_quality.py`.

The script and hydratune train alternately, over five seeds. As in `quality.py`, each training writes a file, so that
the same command resumes an interrupted benchmark. `--kinds` measures other options, and `--data` other rows, e.g. those
of MRPC.

The target is the mean, over the seeds, of the script's final accuracy on the validation set. The time to the target is
counted from the start of the command to the end of the first evaluation that reaches the target. For the script, it is
the time to its last evaluation. Evaluations are included. Saving the model and the test are not.
"""

from __future__ import annotations

import statistics
from typing import Any

import quality
from common import make_parser, parse_args, report_results
from quality import COURSE, EVALUATIONS, OURS, MetricsBySeed
from rich.markup import escape
from rich.table import Table


def time_to(target: float, evaluations: list[tuple[float, float]]) -> float | None:
    """Return the seconds to the first evaluation that reaches the target, or None."""
    return next((seconds for seconds, score in evaluations if score >= target), None)


def summarize(measurements: MetricsBySeed) -> dict[str, Any]:
    """Return the target, and for each system its times, its scores, and the difference in test accuracy."""
    course = measurements[COURSE]
    target = statistics.mean(metrics[EVALUATIONS][-1][1] for metrics in course.values())
    course_times = {seed: metrics[EVALUATIONS][-1][0] for seed, metrics in course.items()}
    systems: dict[str, Any] = {}
    for system, by_seed in measurements.items():
        times = {seed: time_to(target, metrics[EVALUATIONS]) for seed, metrics in by_seed.items()}
        if system == COURSE:
            times = {**course_times}
        shares = [seconds / course_times[seed] for seed, seconds in times.items() if seconds is not None]
        differences = [by_seed[seed]["test_accuracy"] - course[seed]["test_accuracy"] for seed in by_seed]
        systems[system] = {
            "seconds": times,
            "share": statistics.median(shares) if shares else None,
            "best": statistics.mean(max(score for _, score in m[EVALUATIONS]) for m in by_seed.values()),
            "test": quality.interval([metrics["test_accuracy"] for metrics in by_seed.values()]),
            "difference": quality.interval(differences),
        }
    return {"target": target, "contestants": systems}


def make_table(summary: dict[str, Any], title: str) -> Table:
    """Return a table with a row for each system."""
    columns = (
        "seeds that reach it",
        "median, s",
        "relative to the script",
        "best validation accuracy",
        "test accuracy",
        "difference in test accuracy",
    )
    table = Table("system", *columns, title=title)
    for system, values in summary["contestants"].items():
        times = list(values["seconds"].values())
        reached = [seconds for seconds in times if seconds is not None]
        table.add_row(
            escape(system),
            f"{len(reached)} of {len(times)}",
            f"{statistics.median(reached):.1f}" if reached else "",
            f"{values['share']:.0%}" if reached else "",
            f"{values['best']:.4f}",
            quality.format_interval(values["test"]),
            "" if system == COURSE else quality.format_interval(values["difference"]),
        )
    return table


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=1)
    quality.add_options(parser, [OURS], f"systems in addition to the script [default: {OURS}]")
    args = parse_args(parser)
    measurements, _ = quality.run(args, [COURSE, *args.kinds])
    summary = summarize(measurements)
    data = args.data.name if args.data else "pairs from WordNet"
    title = f"{data}: time to a validation accuracy of {summary['target']:.4f}"
    report_results(__file__, args.out, [make_table(summary, title)], {"data": data, **summary})


if __name__ == "__main__":
    main()
