"""Peak memory of a whole run, compared with a script with the same training: `python benchmarks/memory.py`.

It compares a plain Trainer with the arguments that hydratune passes to it, hydratune without tracking, and hydratune
with default settings, i.e. with a local MLflow store and the final model logged. MiniLM is trained on pairs of texts
from WordNet, or on `--data`. It measures the peak resident memory of the process alone, and together with its child
processes, which share pages.
"""

from __future__ import annotations

import statistics
from functools import partial

from common import make_parser, parse_args, report_results, run_interleaved
from rich.table import Table
from workload import add_row_options, run_hydratune_defaults, run_script, temporary_workload

ROWS, QUICK_ROWS = 512, 64


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=3)
    add_row_options(parser, ROWS)
    args = parse_args(parser)
    rows = min(args.rows, QUICK_ROWS) if args.quick else args.rows
    with temporary_workload(args.data, rows) as workload:
        hydratune = partial(run_hydratune_defaults, workload, 1, memory=True)
        measures = {
            "by hand": partial(run_script, workload, "by_hand", epochs=1, memory=True, test=True),
            "hydratune tracking=none": partial(hydratune, "tracking=none"),
            "hydratune": hydratune,
        }
        measurements = run_interleaved(args.rounds, measures)
    peaks = {name: [run.usage.peak for run in runs] for name, runs in measurements.items()}
    totals = {name: [run.usage.peak_with_children for run in runs] for name, runs in measurements.items()}
    base = statistics.median(peaks["by hand"])
    title = f"Peak memory, {rows:,} pairs, one epoch, medians of {args.rounds} rounds"
    table = Table("training", "process, MiB", "x by hand", "with child processes, MiB", title=title)
    for name, values in peaks.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:,.0f}", f"{median / base:.2f}", f"{statistics.median(totals[name]):,.0f}")
    report_results(__file__, args.out, [table], {"rows": rows, "mib": peaks, "mib_with_processes": totals})


if __name__ == "__main__":
    main()
