"""Runs of several processes: torch's agent starts them, and their end is reported like that of one process."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hydratune.config.instantiate import build
from hydratune.training.hardware.distributed import DDP_TIMEOUT, Distributed
from hydratune.training.hardware.environment import ignore_other_launchers
from hydratune.training.hardware.machines import Machines
from hydratune.training.job import Job, run_info
from hydratune.training.results import RunResult
from hydratune.utils import signals, watchdog
from hydratune.utils.errors import SAVED, ConfigError, MachineLostError, NotFiniteError, Problem, PrunedError
from hydratune.utils.files import CONFIG, make_directory, remove_file, write_text
from hydratune.utils.provenance import cli_path
from hydratune.utils.python_processes import python_command

RANKS = "ranks"  # folder in the run directory: the config for all processes; the end and the log of each
FROZEN = "job.yaml"
ENDED = "ended"  # key of the exit code of a rank that was asked to end


class RankFailedError(RuntimeError):
    """Failure of the process that failed first, with its error; its traceback is the cause."""


class _RemoteTraceback(Exception):  # noqa: N818 (as in `multiprocessing.pool`, which shows tracebacks the same way)
    """Traceback of another process."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])


def is_distributed(cfg: DictConfig) -> bool:
    """Return whether a run's hardware uses several processes."""
    return isinstance(build(cfg.hardware), Distributed)


def machines(cfg: DictConfig) -> tuple[int, int]:
    """Return the number of machines of a run, and the number of this one."""
    hardware = build(cfg.hardware)
    return (hardware.launch.nnodes, hardware.launch.node_rank) if isinstance(hardware, Distributed) else (1, 0)


def run_directory(cfg: DictConfig, directory: Path) -> Path:
    """Return the directory of the run, below which machines other than machine 0 have their own."""
    return directory.parents[1] if machines(cfg)[1] else directory


def resume_command(cfg: DictConfig, directory: Path) -> str:
    """Return the command that resumes a run on this machine."""
    command = f"{cli_path()} resume {shlex.quote(os.path.relpath(run_directory(cfg, directory)))}"
    nnodes, node_rank = machines(cfg)
    return command + f" hardware.launch.node_rank={node_rank}  # the node_rank of each machine" * (nnodes > 1)


def other_machine(directory: Path, number: int) -> Path:
    """Return the directory for the log of a machine other than machine 0."""
    return directory / RANKS / f"machine-{number}"


def launch(cfg: DictConfig, job: Job, module: str) -> RunResult:
    """Do the work of `run` in as many processes as the hardware says.

    Args:
        cfg: Composed config.
        job: Job of the run.
        module: Module that each process runs, which calls `training.rank`.

    Raises:
        ConfigError: For errors of the user that the processes detect.
        MachineLostError: If another machine is lost.
        NotFiniteError: If a loss or gradient was infinite or NaN.
        PrunedError: If the sweep pruned the run.
        RankFailedError: With the traceback of the process that failed first.
    """
    ignore_other_launchers()  # which the processes would inherit
    hardware: Distributed = build(cfg.hardware)
    is_first = hardware.launch.node_rank == 0
    directory = run_directory(cfg, job.directory)
    nproc = hardware.local_processes()
    hardware.shares(cfg.trainer.args, nproc * hardware.launch.nnodes)  # raises before anything starts
    if is_first:  # processes of other machines start once all machines are there, and read the same file
        freeze_config(cfg, directory / RANKS)
    try:
        with watchdog.paused():  # the processes save, and each has a watchdog of its own
            exits = _processes(cfg, hardware, nproc, directory, job, module)
    except MachineLostError as lost_error:
        if is_first:
            _tell(cfg, job, lost_error)
        raise
    except (KeyboardInterrupt, SystemExit) as request:
        ends = _ends(directory)
        if is_first and 0 not in ends:
            _tell(cfg, job, request)
        if has_saved(ends) and not job.trial:
            raise SystemExit(SAVED) from request
        raise
    ends = _ends(directory)
    if has_saved(ends) or _were_asked(ends, exits):  # by a signal that this process has not received, or not yet
        if is_first and 0 not in ends:
            _tell(cfg, job, SystemExit(SAVED))
        raise SystemExit(SAVED)
    if problems := [Problem(**fields) for end in ends.values() for fields in end.get("problems", [])]:
        raise ConfigError(*problems)
    if any("pruned" in end for end in ends.values()):
        raise PrunedError(next(end["pruned"] for end in ends.values() if "pruned" in end))
    if exits:
        rank, error = first_failure(ends, exits)
        if is_first and (rank, "at" in ends.get(0, {})) != (0, True):  # otherwise rank 0 has recorded it
            _tell(cfg, job, error)
        raise error
    first = ends[min(ends)]  # of rank 0, or of the first rank here while rank 0 still saves
    return RunResult(
        first["metrics"][cfg.objective], first["metrics"], directory, first["link"], first["pushed"], first["tracked"]
    )


def freeze_config(cfg: DictConfig, folder: Path) -> None:
    """Write the composed config with its `hydra` node, which every process reads.

    Interpolations of `now` are resolved here, so that all processes get the same time.
    """
    make_directory(folder)
    for path in folder.glob("*.json"):
        remove_file(path)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)  # secrets stay references to the environment
    full_config = {**plain, "hydra": OmegaConf.to_container(HydraConfig.get(), resolve=False)}
    text = OmegaConf.to_yaml(OmegaConf.create(full_config), resolve=False)
    write_text(folder / FROZEN, re.sub(r"\$\{now:[^}]*\}", lambda match: _resolved(match[0]), text))


def _resolved(interpolation: str) -> str:
    return str(OmegaConf.create({"value": interpolation}).value)


def _processes(
    cfg: DictConfig, hardware: Distributed, nproc: int, run: Path, job: Job, module: str
) -> Mapping[int, int]:
    """Start this machine's processes and wait; return rank -> exit code of those that failed on any machine."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # otherwise torch warns of addresses without a name
    from hydratune.training.hardware.agent import run_processes

    _quieten()
    arguments = [str(run / RANKS / FROZEN), str(os.getpid()), *(job.trial.origin if job.trial else ())]
    timeout = float(cfg.trainer.args.get("ddp_timeout") or DDP_TIMEOUT)
    try:
        with Machines(hardware.launch, run, nproc, timeout) as machines:
            return run_processes(hardware.launch, machines, python_command(module, *arguments))
    finally:
        _kill_ranks(module)  # torch's agent leaves them if a second request interrupts its waiting


def _kill_ranks(module: str) -> None:
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if module in child.cmdline():
                child.kill()


def _quieten() -> None:
    """Silence torch's agent, because `launch` reports the end of processes once."""
    for name in ("agent.server.api", "agent.server.local_elastic_agent", "multiprocessing.api"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.launcher.api").setLevel(logging.CRITICAL)


def _ends(directory: Path) -> dict[int, dict[str, Any]]:
    """Return rank -> how its process ended, for processes that could still write it."""
    paths = (directory / RANKS).glob("*.json")
    return {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in paths}


def has_saved(ends: Mapping[int, Mapping[str, Any]]) -> bool:
    """Return whether the ranks were asked to end and have saved a checkpoint, which they do together."""
    return any(end.get(ENDED) == SAVED for end in ends.values())


def _were_asked(ends: Mapping[int, Mapping[str, Any]], exits: Mapping[int, int]) -> bool:
    """Return whether every rank that failed was asked to end, some of them before they could handle signals."""
    return bool(exits) and all(ENDED in ends.get(rank, {}) or signals.ended_by_request(exits[rank]) for rank in exits)


def first_failure(ends: Mapping[int, Mapping[str, Any]], exits: Mapping[int, int]) -> tuple[int, Exception]:
    """Return the rank that failed first and its error; the others failed because it was gone."""
    reported_ends = {rank: end for rank, end in ends.items() if "at" in end}
    for rank, code in exits.items():
        if code < 0 and rank not in ends:  # killed, so it could not report anything
            return rank, RankFailedError(f"rank {rank} was ended by signal {-code}")
    if not reported_ends:
        rank, code = next(iter(exits.items()))
        return rank, RankFailedError(f"rank {rank} ended with exit code {code}")
    rank, end = min(reported_ends.items(), key=lambda item: item[1]["at"])
    if "not_finite" in end:
        return rank, NotFiniteError(Problem(**end["not_finite"]))
    error = RankFailedError(f"rank {rank}: {end['error']}")
    error.__cause__ = _RemoteTraceback(end["traceback"])
    return rank, error


def _tell(cfg: DictConfig, job: Job, error: BaseException) -> None:
    """End the tracked run with the error or request that ended it, if rank 0 could not do so."""
    if (job.directory / CONFIG).is_file():  # the run was tracked
        try:
            with build(cfg.tracking).start(run_info(cfg, job)):
                raise error
        except type(error):
            return
