"""Test that a long sweep does not lose, repeat, or leak anything: `python benchmarks/soak.py`.

500 tiny trials on four workers share one SQLite study and one MLflow server on loopback, which `hydratune ui` starts.
Afterwards, the study, the folders, and MLflow must have each trial exactly once, and each must have ended. Otherwise,
this script fails. It prints the memory growth of a worker, the CPU time of a trial in the first and in the second half,
and the time of `hydratune sweep report` for all trials.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from common import (
    HYDRATUNE,
    MIB,
    make_parser,
    parse_args,
    report_results,
    run_process,
    temporary_working_directory,
)
from rich.table import Table

from hydratune.sweep.report.page import PAGE, REPORT
from hydratune.sweep.study import OWNER, default_storage
from hydratune.tracking.client import connect
from hydratune.tracking.delivery import pointer
from hydratune.tracking.runs_view import PARENT
from hydratune.utils import process
from hydratune.utils.files import METRICS

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SWEEP = Path("multirun", "soak")
EVALUATIONS = 2
TINY = [
    "experiment=digits",
    "hardware.threads=1",
    "dataset.max_samples.train=64",
    "dataset.max_samples.validation=32",
    "dataset.max_samples.test=1",
    *(f"model.config.{name}={size}" for name, size in {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}.items()),
    f"trainer.args.num_train_epochs={EVALUATIONS}",
    "tracking.log_models=false",
    "sweep.name=soak",
]  # fmt: skip


def grid_overrides(trials: int) -> list[str]:
    """Return the overrides of a grid with this number of trials."""
    decays = 4
    rates = [f"{1e-4 * (number + 1):.4g}" for number in range(trials // decays)]
    return [
        f"trainer.args.learning_rate={','.join(rates)}",
        f"trainer.args.weight_decay={','.join(f'{number / 100}' for number in range(decays))}",
    ]


# --- server and memory -----------------------------------------------------------------------------------


@contextmanager
def mlflow_server() -> Iterator[str]:
    """Start an MLflow server on a new store in the working directory, and yield its address."""
    uri = f"sqlite:///{Path('server.db').absolute()}"
    connect(uri)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with Path("server.log").open("ab") as log:
        server = subprocess.Popen(
            [HYDRATUNE, "ui", "--uri", uri, "--port", str(port), "--no-browser"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        while server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit(Path("server.log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class Sample(NamedTuple):
    """Memory and CPU time of a worker at a point in time.

    Args:
        time: Unix time.
        mib: Resident memory in MiB.
        cpu_seconds: CPU time since the start of the worker.
    """

    time: float
    mib: float
    cpu_seconds: float


@dataclass
class WorkerMonitor:
    """Samples of the workers of a sweep, twice a second.

    Args:
        samples: Samples by process ID.
    """

    samples: dict[int, list[Sample]] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take samples until the context ends."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.5):
            for child in psutil.Process().children(recursive=True):
                try:
                    if "LokyProcess" in " ".join(child.cmdline()):
                        cpu_seconds = sum(child.cpu_times()[:2])
                        sample = Sample(time.time(), child.memory_info().rss / MIB, cpu_seconds)
                        self.samples.setdefault(child.pid, []).append(sample)
                except psutil.Error:  # it has just exited
                    continue


def memory_growth(samples: Sequence[Sample], end_times: Sequence[float]) -> float:
    """Return the slope of a worker's memory in MiB per 100 of its trials, without the first fifth as a warm-up.

    Args:
        samples: Samples of the worker.
        end_times: Unix times at which its trials ended.
    """
    points = [(sum(end <= sample.time for end in end_times), sample.mib) for sample in samples]
    steady = [(trials, mib) for trials, mib in points if len(end_times) / 5 <= trials < len(end_times)]
    if len({trials for trials, _ in steady}) < 2:
        return float("nan")
    return 100 * statistics.linear_regression(*zip(*steady, strict=True)).slope


def cpu_seconds_per_trial(samples: Sequence[Sample], end_times: Sequence[float]) -> tuple[float, float]:
    """Return the mean CPU seconds of a worker's trials after its first one, in the first and in the second half."""
    used = [min((abs(sample.time - end), sample.cpu_seconds) for sample in samples)[1] for end in end_times]
    middle = len(used) // 2
    if not 0 < middle < len(used) - 1:
        return float("nan"), float("nan")
    return (used[middle] - used[0]) / middle, (used[-1] - used[middle]) / (len(used) - 1 - middle)


# --- check -----------------------------------------------------------------------------------------------


def count_trials(trials: Sequence[FrozenTrial], uri: str) -> dict[str, Counter[str]]:
    """Count the trials of the study, the folders, and MLflow by state, and those that were repeated."""
    points = Counter(str(trial.params) for trial in trials)
    runs = list(trial_runs(uri))
    return {
        "study": Counter(trial.state.name for trial in trials) + _repeated(points),
        "folders": Counter({"with scores": len(list(SWEEP.glob(f"[0-9]*/{METRICS}")))}),
        "MLflow": Counter(run.info.status for run in runs) + _repeated(Counter(run.info.run_name for run in runs)),
        "MLflow, the sweep's own run": Counter([sweep_run(uri).info.status]),
    }


def _repeated(counts: Counter[str]) -> Counter[str]:
    return Counter({"repeated": counts.total() - len(counts)})


def trial_runs(uri: str) -> Iterator[Any]:
    """Yield the MLflow runs of the trials."""
    client, token = connect(uri), None
    parent: Any = pointer(SWEEP)
    query = f"tags.`{PARENT}` = '{parent['run_id']}'"
    while True:
        page = client.search_runs([parent["experiment_id"]], query, page_token=token)
        yield from page
        if not (token := page.token):
            return


def sweep_run(uri: str) -> Any:
    """Return the MLflow run of the sweep."""
    parent: Any = pointer(SWEEP)
    return connect(uri).get_run(parent["run_id"])


def is_complete(counts: Mapping[str, Counter[str]], trials: int) -> bool:
    """Return whether each trial is in all three places exactly once, and has ended."""
    return counts == {
        "study": {"COMPLETE": trials},
        "folders": {"with scores": trials},
        "MLflow": {"FINISHED": trials},
        "MLflow, the sweep's own run": {"FINISHED": 1},
    }


def measure(trials: int, workers: int) -> dict[str, Any]:
    """Run the sweep in the working directory, and check its results."""
    import optuna

    monitor = WorkerMonitor()
    with mlflow_server() as uri:
        overrides = [*TINY, *grid_overrides(trials), f"sweep.workers={workers}", f"tracking.uri={uri}"]
        with monitor.running():
            sweep = run_process([HYDRATUNE, "-m", *overrides], Path())
        finished = optuna.load_study(study_name="soak", storage=default_storage(SWEEP)).trials
        counts = count_trials(finished, uri)
    (SWEEP / REPORT / PAGE).unlink()
    report = run_process([HYDRATUNE, "sweep", "report", "soak"], Path())
    end_times = {
        pid: sorted(
            trial.datetime_complete.timestamp()
            for trial in finished
            if trial.datetime_complete and worker_pid(trial) == pid
        )
        for pid in monitor.samples
    }
    workers_with_trials = [(samples, end_times[pid]) for pid, samples in monitor.samples.items() if end_times[pid]]
    return {
        "whole": is_complete(counts, trials),
        "found": counts,
        "seconds": sweep.seconds,
        "cpu_seconds_per_trial": [cpu_seconds_per_trial(*worker) for worker in workers_with_trials],
        "growth": [memory_growth(*worker) for worker in workers_with_trials],
        "peak": [max(sample.mib for sample in samples) for samples, _ in workers_with_trials],
        "report_seconds": report.seconds,
        "report_mib": (SWEEP / REPORT / PAGE).stat().st_size / MIB,
    }


def worker_pid(trial: FrozenTrial) -> int:
    """Return the process ID of the worker that trained a trial."""
    return int(trial.user_attrs[OWNER][process.PROCESS].split()[0])


def make_tables(values: Mapping[str, Any], trials: int, workers: int) -> list[Table]:
    """Return a table of the counts, and a table of time and memory."""
    verdict = "no trial lost or repeated" if values["whole"] else "FAILED: trials are lost or repeated"
    counts_table = Table("place", "trials", title=f"{trials} trials on {workers} workers: {verdict}")
    for place, counts in values["found"].items():
        counts_table.add_row(place, ", ".join(f"{count} {state}" for state, count in counts.items()))
    cost_table = Table("measurement", "value", title="Time and memory")
    cost_table.add_row("total time", f"{values['seconds']:.0f} s, {values['seconds'] / trials:.2f} s per trial")
    for half, costs in zip(("first", "second"), zip(*values["cpu_seconds_per_trial"], strict=True), strict=True):
        cost_table.add_row(f"CPU seconds per trial, {half} half", ", ".join(f"{seconds:.2f}" for seconds in costs))
    growth = ", ".join(f"{mib:+.1f}" for mib in values["growth"])
    cost_table.add_row("memory growth per worker and 100 trials", f"{growth} MiB, peak {max(values['peak']):.0f} MiB")
    cost_table.add_row("sweep report", f"{values['report_seconds']:.1f} s, {values['report_mib']:.1f} MiB")
    return [counts_table, cost_table]


def main() -> None:
    """Run the benchmark, print the tables, and write them as JSON."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--trials", type=int, default=500, help="number of trials, a multiple of 4 [default: 500]")
    parser.add_argument("--workers", type=int, default=4)
    args = parse_args(parser)
    if args.quick:
        args.trials, args.workers = 8, 2
    with temporary_working_directory():
        values = measure(args.trials, args.workers)
    report_results(__file__, args.out, make_tables(values, args.trials, args.workers), values)
    if not values["whole"]:
        raise SystemExit("trials are lost or repeated")


if __name__ == "__main__":
    main()
