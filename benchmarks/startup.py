"""Start-up time of commands, and time to the first training step: `python benchmarks/startup.py`.

It times commands that do not train, compared with a bare `import hydra`. It then times hydratune with default settings,
and the same training as a script (see scripts.py), from the start of the command to the first step. The rows of both
have been tokenized before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from common import HYDRATUNE, make_parser, parse_args, report_results, run_interleaved
from rich.table import Table
from workload import run_hydratune_defaults, run_script, temporary_workload

COMMANDS = {
    "import hydra": [sys.executable, "-c", "import hydra"],
    "hydratune --help": [HYDRATUNE, "--help"],
    "hydratune --cfg job": [HYDRATUNE, "--cfg", "job"],
    "a config error": [HYDRATUNE, "trainer.args.learning_rat=1"],
    "import transformers.Trainer": [sys.executable, "-c", "from transformers import Trainer"],
}
BASELINE, OURS = "by hand", "hydratune"
ROWS = 64


def command_seconds(command: list[str], directory: str) -> float:
    """Return the wall-clock seconds of a command; its exit code is ignored, since one command has an error."""
    start = time.perf_counter()
    subprocess.run(command, cwd=directory, capture_output=True, check=False)
    return time.perf_counter() - start


def make_table(column: str, times: dict[str, list[float]], base: str, title: str) -> Table:
    """Return a table of medians, and of their ratios to the median of `base`."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(column, "median, s", f"x {base}", title=title)
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / medians[base]:.1f}")
    return table


def main() -> None:
    """Run the benchmark, print the tables, and write them as JSON."""
    args = parse_args(make_parser(__doc__, rounds=7))
    with tempfile.TemporaryDirectory() as directory, temporary_workload(None, ROWS) as workload:
        commands = {name: partial(command_seconds, command, directory) for name, command in COMMANDS.items()}
        trainings = {
            BASELINE: partial(run_script, workload, "by_hand", epochs=1),
            OURS: partial(run_hydratune_defaults, workload, 1),
        }
        warmup: dict[str, Callable[[], Any]] = {**commands, **trainings}
        run_interleaved(1, warmup)  # fills the caches
        seconds = run_interleaved(args.rounds, commands)
        runs_by_name = run_interleaved(args.rounds, trainings)
    first_steps = {name: [run.to_first_step for run in runs] for name, runs in runs_by_name.items()}
    tables = [
        make_table("command", seconds, "import hydra", f"Start-up time, {args.rounds} rounds"),
        make_table("training", first_steps, BASELINE, f"Time to the first step, {ROWS} rows, {args.rounds} rounds"),
    ]
    report_results(__file__, args.out, tables, {"seconds": seconds, "seconds_to_first_step": first_steps})


if __name__ == "__main__":
    main()
