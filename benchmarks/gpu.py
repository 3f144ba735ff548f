"""Training on a GPU with different precisions, compilation, and attention kernels: `python benchmarks/gpu.py`.

It compares the console script with default settings and a plain Trainer (see scripts.py) with the arguments that
hydratune passes to it, with one change per row. MiniLM is trained on pairs of texts from WordNet, or on `--data`. Each
contestant trains two epochs, and the whole second epoch is timed. The share of the peak is defined in throughput.py.
Without a GPU, nothing is measured.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import contest
from common import finish, in_turn, parse, parser
from contest import Material, Timed
from flops import Encoder
from rich.table import Table
from throughput import peak, said_peak

ROWS, QUICK_ROWS = 8000, 512
BATCH = 128
PLAIN = {"bf16": False, "tf32": False}  # fp32 in full
BASE, OURS = "fp32", "hydratune"
PROBE = "import torch; print(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))"


def variants(material: Material, batch: int) -> dict[str, Callable[[], Timed]]:
    """Name -> one training."""
    settings = {**material.settings, "per_device_train_batch_size": batch}

    def by_hand(attention: str | None = None, **changed: Any) -> Callable[[], Timed]:
        return partial(contest.script, material, "by_hand", settings={**settings, **changed}, attention=attention)

    made = {
        BASE: by_hand(**PLAIN),
        "tf32": by_hand(bf16=False, tf32=True),
        "bf16": by_hand(bf16=True),
        "bf16, eager attention": by_hand(bf16=True, attention="eager"),
        "bf16, sdpa": by_hand(bf16=True, attention="sdpa"),
        "bf16, compiled": by_hand(bf16=True, torch_compile=True),
    }
    if importlib.util.find_spec("flash_attn"):
        made["bf16, flash attention 2"] = by_hand(bf16=True, attention="flash_attention_2")
    size = f"trainer.args.per_device_train_batch_size={batch}"
    return {**made, OURS: partial(contest.hydratune_default, material, 2, size)}


def has_gpu() -> bool:
    """Whether there is one that multiplies bf16 itself, asked in another process."""
    done = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    return done.stdout.strip() == "True"


def results(said: dict[str, list[Timed]], peaks: list[dict[str, Any]], encoder: Encoder) -> dict[str, dict[str, float]]:
    """Medians of the rounds, by name."""
    best = statistics.median(max(one["flops"].values()) for one in peaks)
    values: dict[str, dict[str, float]] = {}
    for name, rounds in said.items():
        values[name] = {"samples_per_second": statistics.median(one.samples_per_second for one in rounds)}
        for kind, padded in (("real", False), ("padded", True)):
            rate = statistics.median(one.flops(encoder, padded=padded) / one.seconds for one in rounds)
            values[name][f"share_of_peak_{kind}"] = rate / best
    return values


def table(values: dict[str, dict[str, float]], title: str) -> Table:
    """A row a training."""
    made = Table("", "samples/s", "x fp32", "share of peak", "with padding", title=title)
    base = values[BASE]["samples_per_second"]
    for name, one in values.items():
        rate, *shares = one.values()
        made.add_row(name, f"{rate:,.0f}", f"{rate / base:.2f}", *(f"{share:.2%}" for share in shares))
    return made


def main() -> None:
    """Measures in turn, prints the table and writes it as JSON."""
    made = parser(__doc__, rounds=3)
    contest.add_options(made, ROWS)
    made.add_argument("--batch", type=int, default=BATCH, help=f"rows per batch [default: {BATCH}]")
    given = parse(made)
    rows = min(given.rows, QUICK_ROWS) if given.quick else given.rows
    if not has_gpu():
        nothing = Table("GPU", title="training on a GPU")
        nothing.add_row("not measured (no GPU)")
        finish(__file__, given.out, [nothing], {"gpu": None})
        return
    with tempfile.TemporaryDirectory() as folder:
        material = contest.prepare(Path(folder) / "rows", given.data, rows)
        measures: dict[str, Callable[[], Any]] = {**variants(material, given.batch), "": peak}
        said = in_turn(given.rounds, measures)
        peaks: Any = said.pop("")
        values = results(said, peaks, Encoder.of(material.checkpoint))
    title = f"{rows:,} rows, batches of {given.batch}; peak {said_peak(peaks)}"
    about = {"gpu": peaks[0]["device"], "rows": rows, "batch": given.batch, "peaks": peaks}
    finish(__file__, given.out, [table(values, title)], {**about, "contestants": values})


if __name__ == "__main__":
    main()
