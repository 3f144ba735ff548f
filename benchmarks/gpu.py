"""Training on a GPU with different precisions, compilation, and attention kernels: `python benchmarks/gpu.py`.

It compares the console script with default settings and a plain Trainer (see scripts.py) with the arguments that
hydratune passes to it, with one change per row. MiniLM is trained on pairs of texts from WordNet, or on `--data`. Each
run trains two epochs, and the whole second epoch is timed. The share of the peak is defined in throughput.py. Without a
GPU, nothing is measured.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from common import make_parser, parse_args, report_results
from flops import Encoder
from rich.table import Table
from throughput import format_peak, run_with_peaks
from workload import TimedRun, Workload, add_row_options, run_hydratune_defaults, run_script, temporary_workload

ROWS, QUICK_ROWS = 8000, 512
BATCH_SIZE = 128
FP32: dict[str, Any] = {"bf16": False, "tf32": False}
BASELINE, OURS = "fp32", "hydratune"
PROBE = "import torch; print(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))"


def variants(workload: Workload, batch_size: int) -> dict[str, Callable[[], TimedRun]]:
    """Return a function that trains, for each row of the table."""
    settings = {**workload.settings, "per_device_train_batch_size": batch_size}

    def plain_trainer(attention: str | None = None, **changes: Any) -> Callable[[], TimedRun]:
        return partial(run_script, workload, "by_hand", settings={**settings, **changes}, attention=attention)

    trainings = {
        BASELINE: plain_trainer(**FP32),
        "tf32": plain_trainer(bf16=False, tf32=True),
        "bf16": plain_trainer(bf16=True),
        "bf16, eager attention": plain_trainer(bf16=True, attention="eager"),
        "bf16, sdpa": plain_trainer(bf16=True, attention="sdpa"),
        "bf16, compiled": plain_trainer(bf16=True, torch_compile=True),
    }
    if importlib.util.find_spec("flash_attn"):
        trainings["bf16, flash attention 2"] = plain_trainer(bf16=True, attention="flash_attention_2")
    override = f"trainer.args.per_device_train_batch_size={batch_size}"
    return {**trainings, OURS: partial(run_hydratune_defaults, workload, 2, override)}


def has_gpu() -> bool:
    """Return whether a GPU supports bf16 natively; a child process checks, since this one should not load CUDA."""
    completed = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    return completed.stdout.strip() == "True"


def summarize(
    measurements: dict[str, list[TimedRun]], peaks: list[dict[str, Any]], encoder: Encoder
) -> dict[str, dict[str, float]]:
    """Return the medians over the rounds, by variant."""
    best = statistics.median(max(peak["flops"].values()) for peak in peaks)
    values: dict[str, dict[str, float]] = {}
    for name, runs in measurements.items():
        values[name] = {"samples_per_second": statistics.median(run.samples_per_second for run in runs)}
        for kind, padded in (("real", False), ("padded", True)):
            rate = statistics.median(run.flops(encoder, padded=padded) / run.seconds for run in runs)
            values[name][f"share_of_peak_{kind}"] = rate / best
    return values


def make_table(values: dict[str, dict[str, float]], title: str) -> Table:
    """Return a table with a row for each variant."""
    table = Table("training", "samples/s", "x fp32", "share of peak", "with padding", title=title)
    base = values[BASELINE]["samples_per_second"]
    for name, medians in values.items():
        rate, *shares = medians.values()
        table.add_row(name, f"{rate:,.0f}", f"{rate / base:.2f}", *(f"{share:.2%}" for share in shares))
    return table


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=3)
    add_row_options(parser, ROWS)
    parser.add_argument("--batch", type=int, default=BATCH_SIZE, help=f"rows per batch [default: {BATCH_SIZE}]")
    args = parse_args(parser)
    rows = min(args.rows, QUICK_ROWS) if args.quick else args.rows
    if not has_gpu():
        table = Table("GPU", title="Training on a GPU")
        table.add_row("not measured (no GPU)")
        report_results(__file__, args.out, [table], {"gpu": None})
        return
    with temporary_workload(args.data, rows) as workload:
        measurements, peaks = run_with_peaks(args.rounds, variants(workload, args.batch))
        values = summarize(measurements, peaks, Encoder.from_checkpoint(workload.checkpoint))
    title = f"{rows:,} rows, batches of {args.batch}; peak {format_peak(peaks)}"
    conditions = {"gpu": peaks[0]["device"], "rows": rows, "batch": args.batch, "peaks": peaks}
    report_results(__file__, args.out, [make_table(values, title)], {**conditions, "contestants": values})


if __name__ == "__main__":
    main()
