"""Peak memory of a whole run, compared with a script with the same training: `python benchmarks/memory.py`.

It compares a plain Trainer with the arguments that hydratune passes to it, hydratune without tracking, and hydratune
with default settings, i.e. with a local MLflow store and the final model logged. MiniLM is trained on pairs of texts
from WordNet, or on `--data`. It measures the peak resident memory of the process alone, and together with the processes
that it started, which share pages.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import contest
from common import finish, in_turn, parse, parser
from rich.table import Table

ROWS, QUICK_ROWS = 512, 64


def main() -> None:
    """Measures in turn, prints the table and writes it as JSON."""
    made = parser(__doc__, rounds=3)
    contest.add_options(made, ROWS)
    given = parse(made)
    rows = min(given.rows, QUICK_ROWS) if given.quick else given.rows
    with tempfile.TemporaryDirectory() as folder:
        material = contest.prepare(Path(folder) / "rows", given.data, rows)
        ours = partial(contest.hydratune_default, material, 1, memory=True)
        measures = {
            "by hand": partial(contest.script, material, "by_hand", epochs=1, memory=True, test=True),
            "hydratune tracking=none": partial(ours, "tracking=none"),
            "hydratune": ours,
        }
        said = in_turn(given.rounds, measures)
    peaks = {name: [one.usage.peak for one in rounds] for name, rounds in said.items()}
    of_all = {name: [one.usage.peak_of_all for one in rounds] for name, rounds in said.items()}
    base = statistics.median(peaks["by hand"])
    title = f"{rows:,} pairs, one epoch, medians of {given.rounds}"
    table = Table("", "peak, MiB", "x by hand", "with its processes, MiB", title=title)
    for name, values in peaks.items():
        middle = statistics.median(values)
        table.add_row(name, f"{middle:,.0f}", f"{middle / base:.2f}", f"{statistics.median(of_all[name]):,.0f}")
    finish(__file__, given.out, [table], {"rows": rows, "mib": peaks, "mib_with_processes": of_all})


if __name__ == "__main__":
    main()
