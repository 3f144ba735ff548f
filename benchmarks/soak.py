"""Test that a long sweep does not lose, repeat, or leak anything: `python benchmarks/soak.py`.

500 tiny trials on four workers share one SQLite study and one MLflow server on loopback, which `hydratune ui` starts.
Afterwards, the study, the folders, and MLflow must have each trial exactly once, and each must have ended; otherwise,
this script fails. It prints the growth of a worker's memory with the number of trials, the time of a trial at the
beginning and at the end, and the time of `hydratune sweep report` for all trials.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from common import HYDRATUNE, MIB, finish, parse, parser, run
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


def grid(trials: int) -> list[str]:
    """Overrides of so many trials."""
    decays = 4
    rates = [f"{1e-4 * (number + 1):.4g}" for number in range(trials // decays)]
    return [
        f"trainer.args.learning_rate={','.join(rates)}",
        f"trainer.args.weight_decay={','.join(f'{number / 100}' for number in range(decays))}",
    ]


# --- processes that run during the sweep -----------------------------------------------------------------


@contextmanager
def server() -> Iterator[str]:
    """The address of an MLflow server on a store of this folder."""
    uri = f"sqlite:///{Path('server.db').absolute()}"
    connect(uri)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with Path("server.log").open("ab") as log:
        started = subprocess.Popen(
            [HYDRATUNE, "ui", "--uri", uri, "--port", str(port), "--no-browser"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        while started.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit(Path("server.log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@dataclass
class Memory:
    """What the workers of a sweep hold, seen twice a second.

    Args:
        seen: Number of a worker's process -> times since 1970, MiB, and seconds of its CPUs.
    """

    seen: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks as long as the context lasts."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for one in psutil.Process().children(recursive=True):
                try:
                    if "LokyProcess" in " ".join(one.cmdline()):
                        used = sum(one.cpu_times()[:2])
                        self.seen.setdefault(one.pid, []).append((time.time(), one.memory_info().rss / MIB, used))
                except psutil.Error:  # it has just ended
                    continue


def growth(seen: Sequence[tuple[float, float, float]], ends: Sequence[float]) -> float:
    """MiB that a worker grows by in a hundred trials of its own, by a line through all but its first fifth.

    Args:
        seen: Times, MiB and seconds of CPUs.
        ends: Of its trials.
    """
    points = [(sum(end <= at for end in ends), mib) for at, mib, _ in seen]
    settled = [(done, mib) for done, mib in points if len(ends) / 5 <= done < len(ends)]
    if len({done for done, _ in settled}) < 2:
        return float("nan")
    return 100 * statistics.linear_regression(*zip(*settled, strict=True)).slope


def cost(seen: Sequence[tuple[float, float, float]], ends: Sequence[float]) -> tuple[float, float]:
    """Seconds of its CPUs that a trial took a worker, behind its first one, in the first and in the last half."""
    used = [min((abs(at - end), cpu) for at, _, cpu in seen)[1] for end in ends]
    middle = len(used) // 2
    if not 0 < middle < len(used) - 1:
        return float("nan"), float("nan")
    return (used[middle] - used[0]) / middle, (used[-1] - used[middle]) / (len(used) - 1 - middle)


# --- what is left of it ----------------------------------------------------------------------------------


def counted(trials: Sequence[FrozenTrial], uri: str) -> dict[str, Counter[str]]:
    """What the study, the folders and MLflow have: state -> how often, and what is there more than once."""
    points = Counter(str(trial.params) for trial in trials)
    runs = list(nested(uri))
    return {
        "study": Counter(trial.state.name for trial in trials) + _repeated(points),
        "folders": Counter({"with scores": len(list(SWEEP.glob(f"[0-9]*/{METRICS}")))}),
        "MLflow": Counter(run.info.status for run in runs) + _repeated(Counter(run.info.run_name for run in runs)),
        "MLflow, the sweep's own run": Counter([parent(uri).info.status]),
    }


def _repeated(counts: Counter[str]) -> Counter[str]:
    return Counter({"repeated": counts.total() - len(counts)})


def nested(uri: str) -> Iterator[Any]:
    """The runs of the trials."""
    client, where, token = connect(uri), pointer(SWEEP), None
    while True:
        page = client.search_runs([where["experiment_id"]], f"tags.`{PARENT}` = '{where['run_id']}'", page_token=token)
        yield from page
        if not (token := page.token):
            return


def parent(uri: str) -> Any:
    """The sweep's own run."""
    return connect(uri).get_run(pointer(SWEEP)["run_id"])


def is_whole(found: Mapping[str, Counter[str]], trials: int) -> bool:
    """Whether each trial is everywhere once, and ended."""
    return found == {
        "study": {"COMPLETE": trials},
        "folders": {"with scores": trials},
        "MLflow": {"FINISHED": trials},
        "MLflow, the sweep's own run": {"FINISHED": 1},
    }


def measure(trials: int, workers: int) -> dict[str, Any]:
    """Runs it in this folder."""
    import optuna

    memory = Memory()
    with server() as uri:
        typed = [*TINY, *grid(trials), f"sweep.workers={workers}", f"tracking.uri={uri}"]
        with memory.watched():
            whole = run([HYDRATUNE, "-m", *typed], Path())
        done = optuna.load_study(study_name="soak", storage=default_storage(SWEEP)).trials
        found = counted(done, uri)
    (SWEEP / REPORT / PAGE).unlink()
    report = run([HYDRATUNE, "sweep", "report", "soak"], Path())
    ends = {pid: sorted(one.datetime_complete.timestamp() for one in done if own(one) == pid) for pid in memory.seen}
    settled = {pid: seen for pid, seen in memory.seen.items() if ends[pid]}
    return {
        "whole": is_whole(found, trials),
        "found": found,
        "seconds": whole.seconds,
        "cpu_seconds_per_trial": [cost(seen, ends[pid]) for pid, seen in settled.items()],
        "growth": [growth(seen, ends[pid]) for pid, seen in settled.items()],
        "peak": [max(mib for _, mib, _ in seen) for seen in settled.values()],
        "report_seconds": report.seconds,
        "report_mib": (SWEEP / REPORT / PAGE).stat().st_size / MIB,
    }


def own(trial: FrozenTrial) -> int:
    """The number of the process that trained it."""
    return int(trial.user_attrs[OWNER][process.PROCESS].split()[0])


def tables(values: Mapping[str, Any], trials: int, workers: int) -> list[Table]:
    """What is where, and what it took."""
    verdict = "no trial lost or repeated" if values["whole"] else "FAILED: trials are lost or repeated"
    there = Table("where", "what", title=f"{trials} trials on {workers} workers: {verdict}")
    for where, counts in values["found"].items():
        there.add_row(where, ", ".join(f"{count} {state}" for state, count in counts.items()))
    took = Table("what", "")
    took.add_row("in all", f"{values['seconds']:.0f} s, {values['seconds'] / trials:.2f} s per trial")
    for half, costs in zip(("first", "last"), zip(*values["cpu_seconds_per_trial"], strict=True), strict=True):
        took.add_row(f"CPU seconds per trial, {half} half", ", ".join(f"{seconds:.2f}" for seconds in costs))
    told = ", ".join(f"{mib:+.1f}" for mib in values["growth"])
    took.add_row("memory growth of a worker per 100 of its trials", f"{told} MiB, peak {max(values['peak']):.0f} MiB")
    took.add_row("the report", f"{values['report_seconds']:.1f} s, {values['report_mib']:.1f} MiB")
    return [there, took]


def main() -> None:
    """Runs it, prints the tables and writes them as JSON."""
    made = parser(__doc__, rounds=1)
    made.add_argument("--trials", type=int, default=500, help="number of trials, a multiple of 4 [default: 500]")
    made.add_argument("--workers", type=int, default=4)
    given = parse(made)
    if given.quick:
        given.trials, given.workers = 8, 2
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            values = measure(given.trials, given.workers)
        finally:
            os.chdir(home)
    finish(__file__, given.out, tables(values, given.trials, given.workers), values)
    if not values["whole"]:
        raise SystemExit("trials are lost or repeated")


if __name__ == "__main__":
    main()
