"""Training samples per second, compared with three scripts without hydratune: `python benchmarks/throughput.py`.

MiniLM is trained on pairs of texts from WordNet, or on `--data`. The systems (see scripts.py) run alternately, each in
its own process:

course     the script of the Hugging Face course: batches of 8, padded to their longest row, fp32
run_glue   the defaults of transformers' run_glue.py: batches of 8, padded to 128, fp32
by hand    a plain Trainer with the arguments that hydratune passes to it
hydratune  the console script with default settings, with a local MLflow store

With --parts, ablations replace the scripts: hydratune without one of its optimizations. Two further variants, with
frozen embeddings and without dropout, are different trainings.

Each system trains two epochs, and the whole second epoch is timed: each row once, with logging, without evaluation
or checkpoints. CPU time is the time that the process used, regardless of other load.

The share of the peak is the FLOP rate of linear layers and attention (see flops.py), divided by the peak. The peak is
the rate of the fastest matrix multiplication in the same round, in any precision. It is the best of many short
measurements, so shares are underestimated if other processes use the machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from common import HERE, make_parser, parse_args, report_results, run_interleaved
from flops import Encoder
from rich.table import Table
from workload import TimedRun, Workload, add_row_options, run_hydratune_defaults, run_script, temporary_workload

OURS = "hydratune"
SCRIPTS = {"course": "course", "run_glue": "run_glue", "by hand": "by_hand"}
RATES = ("samples_per_second", "samples_per_cpu_second")
# Variant of hydratune -> its overrides.
ABLATIONS = {
    "in fp32": ["hardware.precision=fp32"],
    "rows in random order": ["trainer.args.train_sampling_strategy=random"],
    "attention by sdpa": ["hardware.attn_implementation=sdpa"],
    "plain steps": ["hardware.cpu_optimizations=false"],
    "embeddings frozen": ["model.freeze=[embeddings]"],
    "no dropout": ["model.dropout=0"],
    "no dropout, attention by sdpa": ["model.dropout=0", "hardware.attn_implementation=sdpa"],
}
ROWS, QUICK_ROWS = 1024, 64


def measure_peak() -> dict[str, Any]:
    """Measure the FLOP rate of the machine in a new process; see flops.py."""
    command = [sys.executable, str(HERE / "flops.py")]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_with_peaks(
    rounds: int, trainings: Mapping[str, Callable[[], TimedRun]]
) -> tuple[dict[str, list[TimedRun]], list[dict[str, Any]]]:
    """Return the runs of each training, and the peak of the machine in each round."""
    measurements: dict[str, list[Any]] = run_interleaved(rounds, {**trainings, "": measure_peak})
    peaks = measurements.pop("")
    return measurements, peaks


def systems(workload: Workload, ablations: bool) -> dict[str, Callable[[], TimedRun]]:
    """Return hydratune and the baseline scripts, or hydratune and its ablations."""
    trainings: dict[str, Callable[[], TimedRun]] = {
        name: partial(run_script, workload, script, settings=None if script == "by_hand" else {})
        for name, script in SCRIPTS.items()
    }
    if ablations:
        trainings = {
            name: partial(run_hydratune_defaults, workload, 2, *overrides) for name, overrides in ABLATIONS.items()
        }
    return {**trainings, OURS: partial(run_hydratune_defaults, workload)}


def summarize(measurements: dict[str, list[TimedRun]], peaks: list[dict[str, Any]], encoder: Encoder) -> dict[str, Any]:
    """Return the measurements of each round by system, and the speedups of hydratune."""
    best = [max(peak["flops"].values()) for peak in peaks]
    values: dict[str, Any] = {}
    for name, runs in measurements.items():
        values[name] = {rate: [getattr(run, rate) for run in runs] for rate in RATES}
        values[name]["tokens_a_row"] = statistics.fmean(runs[0].lengths)
        for kind, padded in (("real", False), ("padded", True)):
            flops = [run.flops(encoder, padded=padded) for run in runs]
            values[name][f"gflop_a_sample_{kind}"] = flops[0] / len(runs[0].lengths) / 1e9
            shares = [flop / run.seconds / rate for flop, run, rate in zip(flops, runs, best, strict=True)]
            values[name][f"share_of_peak_{kind}"] = shares
    speedups = {
        name: {rate: [a / b for a, b in zip(values[OURS][rate], values[name][rate], strict=True)] for rate in RATES}
        for name in measurements
        if name != OURS
    }
    return {"contestants": values, "hydratune_over": speedups, "peaks": peaks}


def make_table(values: dict[str, Any], rows: int) -> Table:
    """Return a table with a row for each system: medians over the rounds, also of the ratios."""
    rounds = len(values["peaks"])
    title = f"Training on {rows:,} pairs, medians of {rounds} rounds; peak {format_peak(values['peaks'])}"
    columns = ["samples/s", "speedup of hydratune", "per CPU second"]
    columns += ["GFLOP per sample", "with padding", "share of peak", "with padding"]
    table = Table("system", *columns, title=title)
    for name, system in values["contestants"].items():
        speedups = values["hydratune_over"].get(name, {})
        table.add_row(
            name,
            f"{statistics.median(system['samples_per_second']):.1f}",
            *(f"{statistics.median(speedups[rate]):.2f} x" if speedups else "" for rate in RATES),
            f"{system['gflop_a_sample_real']:.2f}",
            f"{system['gflop_a_sample_padded']:.2f}",
            f"{statistics.median(system['share_of_peak_real']):.1%}",
            f"{statistics.median(system['share_of_peak_padded']):.1%}",
        )
    return table


def format_peak(peaks: list[dict[str, Any]]) -> str:
    """Format the median peak by precision, for example `bfloat16 404, float32 96 GFLOP/s (CPU)`."""
    medians = {name: statistics.median(peak["flops"][name] for peak in peaks) / 1e9 for name in peaks[0]["flops"]}
    return ", ".join(f"{name} {rate:,.0f}" for name, rate in medians.items()) + f" GFLOP/s ({peaks[0]['device']})"


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=3)
    add_row_options(parser, ROWS)
    parser.add_argument("--parts", action="store_true", help="compare hydratune with its ablations, not with scripts")
    args = parse_args(parser)
    rows = min(args.rows, QUICK_ROWS) if args.quick else args.rows
    with temporary_workload(args.data, rows) as workload:
        measurements, peaks = run_with_peaks(args.rounds, systems(workload, args.parts))
        values = summarize(measurements, peaks, Encoder.from_checkpoint(workload.checkpoint))
    values |= {"data": str(args.data or "wordnet_pairs"), "settings": workload.settings}
    script = "throughput_parts" if args.parts else __file__
    report_results(script, args.out, [make_table(values, rows)], values)


if __name__ == "__main__":
    main()
