"""Scaling of time and memory with the number of rows, their length, and processes: `python benchmarks/scale.py`.

hydratune trains MiniLM for some steps on rows of random letters. It measures the seconds from the start of the command
to the first step (reading, checking, and tokenizing with an empty cache), the median time per step, and the peak memory
of all its processes.

The scaling exponent is the slope of a line through the logarithms: 1 if twice the size takes twice as much, 0 if it
takes no more. Constant costs matter least between the two largest sizes, so their exponent is shown too.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from common import make_parser, parse_args, report_results, run_interleaved
from rich.table import Table
from workload import run_hydratune

from hydratune.config.options import shipped_dir

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # BERT has a token for each
SHORT = 24  # tokens per row, if the length does not vary
BATCH_SIZE = 32
HELD_OUT = 32  # validation rows
STEPS, QUICK_STEPS = 10, 4
WARMUP_STEPS = 2  # excluded from the median


@dataclass(frozen=True)
class Cost:
    """Time and memory of one training.

    Args:
        to_first_step: Seconds from the start of the command to the first step.
        step: Median seconds per step.
        peak: Peak memory of all processes in MiB.
    """

    to_first_step: float
    step: float
    peak: float


COLUMNS = {"to_first_step": "s to the first step", "step": "s per step", "peak": "peak, MiB"}
DECIMALS = {"to_first_step": 1, "step": 3, "peak": 0}


def write_rows(file: Path, rows: int, tokens: int, seed: int) -> None:
    """Write rows with two labels and `tokens` tokens each, including the two special tokens of BERT."""
    rng = random.Random(seed)  # noqa: S311 (data, not secrets)
    with file.open("w") as out:
        for _ in range(rows):
            text = " ".join(rng.choices(LETTERS, k=tokens - 2))
            out.write(json.dumps({"text": text, "label": rng.randrange(2)}) + "\n")


def measure(folder: Path, rows: int, tokens: int, steps: int, *overrides: str) -> Cost:
    """Train in an empty directory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": rows, "validation": HELD_OUT}.items()):
        write_rows(folder / f"{split}.jsonl", count, tokens, seed)
    files = [f"dataset.files.{split}={folder}/{split}.jsonl" for split in ("train", "validation")]
    base = ["dataset=local", *files, f"trainer.args.max_steps={steps}", "tracking=none"]
    run = run_hydratune([*base, *overrides], folder=folder, memory=True)
    seconds = [step for epoch in run.stopwatch["epochs"] for step in epoch["steps"]][WARMUP_STEPS:]
    return Cost(run.to_first_step, statistics.median(seconds), run.usage.peak_with_children)


def scaling_exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the power of the size with which a value grows, by a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def make_table(name: str, measurements: dict[int, list[Cost]]) -> tuple[Table, dict[str, dict[str, float]]]:
    """Return a table with a row for each size, and the scaling exponents of its columns."""
    rounds = len(next(iter(measurements.values())))
    table = Table(name, *COLUMNS.values(), title=f"Scaling with {name}, medians of {rounds} rounds")
    medians = {
        size: {column: statistics.median(getattr(cost, column) for cost in costs) for column in COLUMNS}
        for size, costs in measurements.items()
    }
    for size, values in medians.items():
        table.add_row(f"{size:,}", *(f"{values[column]:,.{DECIMALS[column]}f}" for column in COLUMNS))
    sizes = list(medians)
    exponents = {}
    if len(sizes) > 1:
        table.add_section()
        for key, label, selection in (
            ("growth", "scaling exponent", sizes),
            ("growth, the last two", "scaling exponent, last two sizes", sizes[-2:]),
        ):
            exponents[key] = {
                column: scaling_exponent(selection, [medians[size][column] for size in selection]) for column in COLUMNS
            }
            table.add_row(label, *(f"{exponents[key][column]:.2f}" for column in COLUMNS))
    return table, exponents


def parse_sizes(text: str) -> list[int]:
    """Parse for example `1000,10000`."""
    return sorted(int(size) for size in text.split(",") if size)


def main() -> None:
    """Run the benchmark, print the tables, and write them as JSON."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--rows", type=parse_sizes, default="1000,10000,100000,1000000")
    parser.add_argument("--lengths", type=parse_sizes, default="32,64,128,256,512", help="tokens per row")
    parser.add_argument("--processes", type=parse_sizes, default="1,2", help="numbers of processes, with hardware=ddp")
    args = parse_args(parser)
    steps = STEPS
    if args.quick:
        args.rows, args.lengths, args.processes, steps = [64, 128], [], [], QUICK_STEPS
    if not (shipped_dir() / "hardware" / "ddp.yaml").is_file():
        args.processes = []
    tables, results = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        train = partial(measure, Path(temporary) / "run")
        rows = BATCH_SIZE * steps  # at most one epoch
        # Key of the results -> name in the table, and what to measure for each size.
        dimensions: dict[str, tuple[str, dict[int, Callable[[], Cost]]]] = {
            "rows": ("rows", {n: partial(train, n, SHORT, steps) for n in args.rows}),
            "tokens a row": ("tokens per row", {n: partial(train, rows, n, steps) for n in args.lengths}),
            "processes": ("processes", {
                n: partial(train, rows, SHORT, steps, "hardware=ddp", f"hardware.nproc_per_node={n}")
                for n in args.processes
            }),
        }  # fmt: skip
        for key, (name, measures) in dimensions.items():
            if measures:
                measurements = run_interleaved(args.rounds, measures)
                table, exponents = make_table(name, measurements)
                tables.append(table)
                sizes = {size: [asdict(cost) for cost in costs] for size, costs in measurements.items()}
                results[key] = {"sizes": sizes, "growth": exponents}
    report_results(__file__, args.out, tables, results)


if __name__ == "__main__":
    main()
