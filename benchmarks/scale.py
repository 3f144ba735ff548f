"""Growth of time and memory with the number of rows, their length, and processes: `python benchmarks/scale.py`.

hydratune trains MiniLM for some steps on rows of random letters. It measures the seconds from the start of the command
to the first step (reading, checking, tokenizing, with an empty cache), the median of the steps after it, and the peak
memory of all its processes. Growth is the slope of a straight line through the logarithms (1: twice the rows take twice
as much; 0: they take no more), and the slope between the two largest sizes, where constants matter least.
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

import contest
import numpy as np
from common import finish, in_turn, parse, parser
from rich.table import Table

from hydratune.config.composition import shipped_dir

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # each is one token of BERT's
SHORT = 24  # tokens of a row where rows are counted
HELD_OUT = 32  # rows
STEPS, QUICK_STEPS = 10, 4
WARM = 2  # steps that are left out


@dataclass(frozen=True)
class Size:
    """What one training takes.

    Args:
        to_first_step: Seconds.
        step: Seconds, the median.
        peak: MiB of all its processes.
    """

    to_first_step: float
    step: float
    peak: float


NAMES = {"to_first_step": "s to the first step", "step": "s a step", "peak": "peak, MiB"}
PLACES = {"to_first_step": 1, "step": 3, "peak": 0}


def write_rows(file: Path, rows: int, tokens: int, seed: int) -> None:
    """Rows of two labels, each of `tokens` tokens with the two that BERT adds."""
    draw = random.Random(seed)  # noqa: S311 (data, not secrets)
    with file.open("w") as out:
        for _ in range(rows):
            text = " ".join(draw.choices(LETTERS, k=tokens - 2))
            out.write(json.dumps({"text": text, "label": draw.randrange(2)}) + "\n")


def measure(folder: Path, rows: int, tokens: int, steps: int, *overrides: str) -> Size:
    """One training in an empty directory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": rows, "validation": HELD_OUT}.items()):
        write_rows(folder / f"{split}.jsonl", count, tokens, seed)
    files = [f"dataset.files.{split}={folder}/{split}.jsonl" for split in ("train", "validation")]
    given = ["dataset=local", *files, f"trainer.args.max_steps={steps}", "tracking=none", *overrides]
    done = contest.hydratune(given, folder=folder, memory=True)
    taken = [step for epoch in done.watch["epochs"] for step in epoch["steps"]][WARM:]
    return Size(done.to_first_step, statistics.median(taken), done.usage.peak_of_all)


def growth(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of the logarithms: what power of the size a value grows with."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def compared(name: str, said: dict[int, list[Size]]) -> tuple[Table, dict[str, float]]:
    """A row a size, medians of the rounds, and the growth of each column."""
    table = Table(name, *NAMES.values(), title=f"medians of {len(next(iter(said.values())))}")
    middle = {
        size: {column: statistics.median(getattr(one, column) for one in rounds) for column in NAMES}
        for size, rounds in said.items()
    }
    for size, values in middle.items():
        table.add_row(f"{size:,}", *(f"{values[column]:,.{PLACES[column]}f}" for column in NAMES))
    sizes = list(middle)
    grown = {}
    if len(sizes) > 1:
        table.add_section()
        for what, of in (("growth", sizes), ("growth, the last two", sizes[-2:])):
            grown[what] = {column: growth(of, [middle[size][column] for size in of]) for column in NAMES}
            table.add_row(what, *(f"{grown[what][column]:.2f}" for column in NAMES))
    return table, grown


def numbers(text: str) -> list[int]:
    """For example `1000,10000`."""
    return sorted(int(number) for number in text.split(",") if number)


def main() -> None:
    """Measures, prints the tables and writes them as JSON."""
    made = parser(__doc__, rounds=1)
    made.add_argument("--rows", type=numbers, default="1000,10000,100000,1000000")
    made.add_argument("--lengths", type=numbers, default="32,64,128,256,512", help="tokens per row")
    made.add_argument("--processes", type=numbers, default="1,2", help="numbers of processes, with hardware=ddp")
    given = parse(made)
    steps = STEPS
    if given.quick:
        given.rows, given.lengths, given.processes, steps = [64, 128], [], [], QUICK_STEPS
    if not (shipped_dir() / "hardware" / "ddp.yaml").is_file():
        given.processes = []
    tables, values = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        one = partial(measure, Path(temporary) / "run")
        few = 32 * steps  # rows: an epoch, or less
        what: dict[str, dict[int, Callable[[], Size]]] = {
            "rows": {n: partial(one, n, SHORT, steps) for n in given.rows},
            "tokens a row": {n: partial(one, few, n, steps) for n in given.lengths},
            "processes": {
                n: partial(one, few, SHORT, steps, "hardware=ddp", f"hardware.nproc_per_node={n}")
                for n in given.processes
            },
        }
        for name, measures in what.items():
            if measures:
                said = in_turn(given.rounds, measures)
                table, grown = compared(name, said)
                tables.append(table)
                sizes = {size: [asdict(one) for one in rounds] for size, rounds in said.items()}
                values[name] = {"sizes": sizes, "growth": grown}
    finish(__file__, given.out, tables, values)


if __name__ == "__main__":
    main()
