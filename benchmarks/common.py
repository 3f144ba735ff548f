"""Shared code of the benchmarks: options, interleaved rounds, processes, machine information, and result files.

The compared systems run alternately, round after round, so that other load on the machine slows all of them. The tables
show medians.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table

from hydratune.utils.files import write_json
from hydratune.utils.machine import available_cpus, cpu_bf16

if TYPE_CHECKING:
    from omegaconf import DictConfig

HERE = Path(__file__).parent
HYDRATUNE = str(Path(sys.executable).with_name("hydratune"))
MIB = 2**20
K = TypeVar("K")
T = TypeVar("T")


# --- options ---------------------------------------------------------------------------------------------


def make_parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"number of rounds [default: {rounds}]")
    parser.add_argument("--threads", type=int, help="cores for this process and its child processes [default: all]")
    parser.add_argument("--quick", action="store_true", help="minimal run that shows that this script works")
    parser.add_argument("--out", type=Path, help="directory of the JSON file [default: benchmarks/results]")
    return parser


def parse_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and set the cores and the environment of this process and its child processes."""
    args = parser.parse_args()
    args.out = (args.out or HERE / "results" / ("quick" if args.quick else "")).absolute()
    if args.quick:
        args.rounds = min(args.rounds, 1)
    if args.threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    # `SystemExit` runs the `finally` blocks, which stop child processes and remove temporary files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["OMP_NUM_THREADS"] = str(args.threads or available_cpus())
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return args


# --- running ---------------------------------------------------------------------------------------------


def run_interleaved(rounds: int, measures: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """Call all functions alternately, and return the results of each function, one per round."""
    measurements: dict[K, list[T]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            measurements[name].append(measure())
    return measurements


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose a config with its `hydra` node, as the command line does."""
    from hydratune.config import composition  # several callers measure memory or start-up, so nothing is preloaded

    request = composition.Request(tuple(overrides))
    with composition.composer(request):
        return composition.compose_config(request, composition.force_add(request))


@contextlib.contextmanager
def temporary_working_directory() -> Iterator[None]:
    """Change to a new directory, and remove it at the end."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


@dataclass(frozen=True)
class Usage:
    """Time and memory of a process.

    Args:
        start_time: Unix time.
        seconds: Wall-clock time from start to exit.
        peak: Peak resident memory in MiB, without child processes; 0 if it was not measured.
        peak_with_children: Peak of the sum over the process and its child processes, sampled ten times a second. Pages
            that they share count more than once.
    """

    start_time: float
    seconds: float
    peak: float = 0
    peak_with_children: float = 0


def run_process(command: Sequence[str], folder: Path, *, memory: bool = False, **environment: str) -> Usage:
    """Run a command in `folder`.

    Raises:
        SystemExit: The command failed; the message has the end of its output.
    """
    with tempfile.TemporaryFile("w+") as output:
        start_time, start = time.time(), time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
        monitor = _MemoryMonitor(process.pid) if memory else None
        try:
            code, seconds = process.wait(), time.perf_counter() - start
        finally:
            process.kill()  # if the benchmark was interrupted; no effect on a process that has exited
        if code:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}\nexited with code {code}:\n{output.read()[-4000:]}")
    return Usage(start_time, seconds, *(monitor.peaks() if monitor else ()))


class _MemoryMonitor(threading.Thread):
    """Sample the memory of a process and of its child processes until the process exits."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peak, self._peak_with_children = pid, 0.0, 0.0
        self.start()

    def run(self) -> None:
        import psutil

        try:
            process = psutil.Process(self._pid)
            while True:
                memory, children = process.memory_info().rss / MIB, 0.0
                for child in process.children(recursive=True):
                    try:
                        children += child.memory_info().rss / MIB
                    except psutil.Error:  # it has just exited
                        continue
                self._peak = max(self._peak, memory, _peak_rss(self._pid))
                self._peak_with_children = max(self._peak_with_children, memory + children)
                time.sleep(0.1)
        except psutil.Error:
            return

    def peaks(self) -> tuple[float, float]:
        """Return the peaks in MiB, without and with child processes."""
        self.join()
        return self._peak, max(self._peak, self._peak_with_children)


def _peak_rss(pid: int) -> float:
    """Return the peak resident memory in MiB that Linux recorded; `ru_maxrss` would include that of the parent."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)


# --- machine information ---------------------------------------------------------------------------------


def machine_info() -> dict[str, Any]:
    """Return the hardware, the library versions, and the date of a measurement."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else "an unknown processor",
        "threads": available_cpus(),
        "bf16": bool(cpu_bf16()),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "date": date.today().isoformat(),
    }


def format_machine(info: Mapping[str, Any]) -> str:
    """Format `machine_info` as one line."""
    bf16 = "with" if info["bf16"] else "without"
    return (
        f"{info['threads']} threads of {info['cpu']}, {bf16} bf16 instructions; Python {info['python']}, "
        f"torch {info['torch']}, transformers {info['transformers']}; {info['date']}"
    )


# --- results ---------------------------------------------------------------------------------------------


def report_results(script: str, out: Path, tables: Sequence[Table], values: Mapping[str, Any]) -> None:
    """Print the tables and the machine information, and write the values to `OUT/SCRIPT.json`."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(table)
    machine = machine_info()
    console.print(format_machine(machine), style="dim")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{Path(script).stem}.json", {"machine": machine, **values})
