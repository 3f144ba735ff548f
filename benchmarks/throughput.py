"""Training samples per second, compared with three scripts without hydratune: `python benchmarks/throughput.py`.

MiniLM is trained on pairs of texts from WordNet, or on `--data`. The contestants (see scripts.py) run in turn, each in
its own process:

course     the script of the Hugging Face course: batches of 8, padded to their longest row, fp32
run_glue   the defaults of transformers' run_glue.py: batches of 8, padded to 128, fp32
by hand    a plain Trainer with the arguments that hydratune passes to it
hydratune  the console script with default settings, with a local MLflow store

With --parts, hydratune without one of its parts at a time replaces the scripts, also with frozen embeddings or without
dropout, which are different trainings.

Each contestant trains two epochs, and the whole second epoch is timed: each row once, with logging, without evaluation
or checkpoints. CPU time is the time that the process used, regardless of other load. The share of the peak is the FLOP
of linear layers and attention (see flops.py), divided by the fastest matrix multiplication that the machine reaches in
the same round, regardless of precision. The peak is the best of many short tries, so with other load on the machine,
shares are underestimated.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import contest
from common import HERE, finish, in_turn, parse, parser
from contest import Material, Timed
from flops import Encoder
from rich.table import Table

OURS = "hydratune"
SCRIPTS = {"course": "course", "run_glue": "run_glue", "by hand": "by_hand"}
RATES = ("samples_per_second", "samples_per_cpu_second")
# What --parts leaves out, one at a time.
PARTS = {
    "in fp32": ["hardware.precision=fp32"],
    "rows in random order": ["trainer.args.train_sampling_strategy=random"],
    "attention by sdpa": ["hardware.attn_implementation=sdpa"],
    "plain steps": ["hardware.cpu_optimizations=false"],
    "embeddings frozen": ["model.freeze=[embeddings]"],
    "no dropout": ["model.dropout=0"],
    "no dropout, attention by sdpa": ["model.dropout=0", "hardware.attn_implementation=sdpa"],
}
ROWS, QUICK_ROWS = 1024, 64


def peak() -> dict[str, Any]:
    """What the machine multiplies, measured now."""
    done = subprocess.run([sys.executable, str(HERE / "flops.py")], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measure(material: Material, rounds: int, parts: bool) -> tuple[dict[str, list[Timed]], list[dict[str, Any]]]:
    """Contestant -> its trainings, and the machine's peak in each round."""
    measures: dict[str, Any] = {
        name: partial(contest.script, material, script, settings=None if script == "by_hand" else {})
        for name, script in SCRIPTS.items()
    }
    if parts:
        measures = {name: partial(contest.hydratune_default, material, 2, *off) for name, off in PARTS.items()}
    measures |= {OURS: partial(contest.hydratune_default, material), "": peak}
    said = in_turn(rounds, measures)
    peaks: Any = said.pop("")
    return said, peaks


def results(said: dict[str, list[Timed]], peaks: list[dict[str, Any]], encoder: Encoder) -> dict[str, Any]:
    """Numbers of each round, by contestant."""
    best = [max(one["flops"].values()) for one in peaks]
    values: dict[str, Any] = {}
    for name, rounds in said.items():
        values[name] = {rate: [getattr(one, rate) for one in rounds] for rate in RATES}
        values[name]["tokens_a_row"] = statistics.fmean(_lengths(rounds[0]))
        for kind, padded in (("real", False), ("padded", True)):
            flops = [one.flops(encoder, padded=padded) for one in rounds]
            values[name][f"gflop_a_sample_{kind}"] = flops[0] / len(_lengths(rounds[0])) / 1e9
            shares = [f / one.seconds / top for f, one, top in zip(flops, rounds, best, strict=True)]
            values[name][f"share_of_peak_{kind}"] = shares
    ratios = {
        name: {rate: [a / b for a, b in zip(values[OURS][rate], values[name][rate], strict=True)] for rate in RATES}
        for name in said
        if name != OURS
    }
    return {"contestants": values, "hydratune_over": ratios, "peaks": peaks}


def _lengths(one: Timed) -> list[int]:
    return [length for epoch in one.steady for length in epoch["lengths"]]


def table(values: dict[str, Any], rows: int) -> Table:
    """A row a contestant; medians over the rounds, of ratios too."""
    rounds = len(values["peaks"])
    title = f"training on {rows:,} pairs a round, medians of {rounds}; peak {said_peak(values['peaks'])}"
    columns = ["samples/s", "hydratune is", "by CPU time"]
    columns += ["GFLOP a sample", "with padding", "share of peak", "with padding"]
    made = Table("", *columns, title=title)
    for name, one in values["contestants"].items():
        ratios = values["hydratune_over"].get(name, {})
        made.add_row(
            name,
            f"{statistics.median(one['samples_per_second']):.1f}",
            *(f"{statistics.median(ratios[rate]):.2f} x" if ratios else "" for rate in RATES),
            f"{one['gflop_a_sample_real']:.2f}",
            f"{one['gflop_a_sample_padded']:.2f}",
            f"{statistics.median(one['share_of_peak_real']):.1%}",
            f"{statistics.median(one['share_of_peak_padded']):.1%}",
        )
    return made


def said_peak(peaks: list[dict[str, Any]]) -> str:
    """The medians of the best multiplications, e.g. `bfloat16 404, float32 96 GFLOP/s (CPU)`."""
    medians = {name: statistics.median(one["flops"][name] for one in peaks) / 1e9 for name in peaks[0]["flops"]}
    return ", ".join(f"{name} {rate:,.0f}" for name, rate in medians.items()) + f" GFLOP/s ({peaks[0]['device']})"


def main() -> None:
    """Trains in turn, prints the table and writes it as JSON."""
    made = parser(__doc__, rounds=3)
    contest.add_options(made, ROWS)
    made.add_argument("--parts", action="store_true", help="compare hydratune without one part at a time, not scripts")
    given = parse(made)
    rows = min(given.rows, QUICK_ROWS) if given.quick else given.rows
    with tempfile.TemporaryDirectory() as folder:
        material = contest.prepare(Path(folder) / "rows", given.data, rows)
        said, peaks = measure(material, given.rounds, given.parts)
        values = results(said, peaks, Encoder.of(material.checkpoint))
    data = str(given.data or "wordnet_pairs")
    values |= {"data": data, "settings": material.settings}
    finish("throughput_parts" if given.parts else __file__, given.out, [table(values, rows)], values)


if __name__ == "__main__":
    main()
