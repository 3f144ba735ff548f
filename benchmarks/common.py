"""Shared code of the benchmarks: options, rounds, processes, machine information, result tables and files.

Contestants run in turn, round after round, so that other load on the machine slows all of them. Medians are printed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from hydratune.utils.files import write_json
from hydratune.utils.machine import available_cpus, cpu_bf16

HERE = Path(__file__).parent
HYDRATUNE = str(Path(sys.executable).with_name("hydratune"))
MIB = 2**20
K, T = TypeVar("K"), TypeVar("T")


# --- options ---------------------------------------------------------------------------------------------


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help=f"rounds [default: {rounds}]")
    made.add_argument("--threads", type=int, help="cores for this process and its child processes [default: all]")
    made.add_argument("--quick", action="store_true", help="minimal run that shows that this script works")
    made.add_argument("--out", type=Path, help="directory of the JSON file [default: benchmarks/results]")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """What was typed; this process, and all that it starts, are held to the cores that were asked for."""
    given = made.parse_args()
    given.out = (given.out or HERE / "results" / ("quick" if given.quick else "")).absolute()
    if given.quick:
        given.rounds = min(given.rounds, 1)
    if given.threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended, and temporary files go
    os.environ["OMP_NUM_THREADS"] = str(given.threads or available_cpus())
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return given


# --- running ---------------------------------------------------------------------------------------------


def in_turn(rounds: int, measures: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """What each measure said in each round."""
    said: dict[K, list[T]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            said[name].append(measure())
    return said


@dataclass(frozen=True)
class Usage:
    """What a process took.

    Args:
        began: Unix time.
        seconds: From its start to its end.
        peak: MiB of its own memory, at most; 0 where that was not asked for.
        peak_of_all: The same with the processes that it started, which share pages, as seen ten times a second.
    """

    began: float
    seconds: float
    peak: float = 0
    peak_of_all: float = 0


def run(command: Sequence[str], folder: Path, *, memory: bool = False, **environment: str) -> Usage:
    """Runs a command in `folder` to its end; one that fails ends the benchmark with what it said."""
    with tempfile.TemporaryFile("w+") as said:
        began, start = time.time(), time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
        watch = _Watch(process.pid) if memory else None
        try:
            code, seconds = process.wait(), time.perf_counter() - start
        finally:
            process.kill()  # where the benchmark was ended; nothing where the process was
        if code:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}\nended with {code}:\n{said.read()[-4000:]}")
    return Usage(began, seconds, *(watch.peaks() if watch else ()))


class _Watch(threading.Thread):
    """Looks at the memory of a process and of those that it started until it is gone."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._own, self._all = pid, 0.0, 0.0
        self.start()

    def run(self) -> None:
        import psutil

        try:
            process = psutil.Process(self._pid)
            while True:
                own, others = process.memory_info().rss / MIB, 0.0
                for child in process.children(recursive=True):
                    try:
                        others += child.memory_info().rss / MIB
                    except psutil.Error:  # it has just ended
                        continue
                self._own, self._all = max(self._own, own, _high_water(self._pid)), max(self._all, own + others)
                time.sleep(0.1)
        except psutil.Error:
            return

    def peaks(self) -> tuple[float, float]:
        """Of the process, and of all, in MiB."""
        self.join()
        return self._own, max(self._own, self._all)


def _high_water(pid: int) -> float:
    """The most MiB that a process has held, by Linux; not `ru_maxrss`, which begins at what its parent held."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)


# --- the machine -----------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Where and with what was measured."""
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


def machine_line() -> str:
    """The same in words."""
    said = machine()
    bf16 = "multiplies bf16" if said["bf16"] else "does not multiply bf16"
    return (
        f"{said['threads']} threads of {said['cpu']}, which {bf16}; Python {said['python']}, torch {said['torch']}, "
        f"transformers {said['transformers']}; {said['date']}"
    )


# --- results ---------------------------------------------------------------------------------------------


def finish(script: str, out: Path, tables: Sequence[Table], values: Mapping[str, Any]) -> None:
    """Prints the tables over a line about the machine, and writes the values to `OUT/SCRIPT.json`."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(table)
    console.print(machine_line(), style="dim")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{Path(script).stem}.json", {"machine": machine(), **values})
