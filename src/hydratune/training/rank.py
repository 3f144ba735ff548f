"""One process of a run, which `training.launch` starts with the same config as all others."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import OmegaConf

from hydratune.config import hydra_guard, servers
from hydratune.config.composition import register_resolvers, without_hydra
from hydratune.config.import_guards import guard_imports
from hydratune.training.hardware.environment import mark_as_rank
from hydratune.training.job import RowCheck, TrialContext, hydra_job
from hydratune.training.launch import ENDED
from hydratune.training.run import run
from hydratune.utils import gc_tuning, signals, watchdog
from hydratune.utils.errors import (
    FAILED,
    SAVED,
    TERMINATED,
    USER_ERROR,
    ConfigError,
    NotFiniteError,
    PrunedError,
    one_line,
)
from hydratune.utils.files import open_for_appending, remove_file, write_json
from hydratune.utils.logs import apply_verbosity, guard_output
from hydratune.utils.provenance import redact

# An error holds the frames of the run, and with them the objects that must not be destroyed: see `_exit`.
_errors: list[BaseException] = []


Context = Callable[[Path], tuple[TrialContext | None, RowCheck | None]]


def main(context: Context, frozen: str, parent: str, *, is_trial: bool = False) -> NoReturn:
    """Train with the other processes of a run, record how that ended, and end this process.

    Args:
        context: Function that returns what a sweep adds to the run in a directory, and the check of the run's rows.
        frozen: File with the config.
        parent: ID of the process that started this one.
        is_trial: Whether the worker of a sweep started this process; it then writes to a file, not to the terminal.
    """
    _exit(_exit_code(lambda: _main(context, Path(frozen), int(parent), is_trial)))


def _main(context: Context, frozen: Path, parent: int, is_trial: bool) -> int:
    mark_as_rank()
    gc_tuning.defer_gc()
    signals.install_in_child(parent)
    watchdog.start(signals.is_finishing, signals.is_orphan, TERMINATED)
    guard_output()
    servers.ignore_default_login()
    guard_imports()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of its search for unused parameters
    rank, folder = int(os.environ["RANK"]), frozen.parent
    end_file = folder / f"{rank}.json"
    remove_file(end_file)  # left by an earlier start
    if rank or is_trial:
        _speak_into(folder / f"{rank}.log")
    try:
        write_json(end_file, _run(context, frozen, rank))
    except ConfigError as error:
        write_json(end_file, {"problems": [asdict(problem) for problem in error.problems]})
        return USER_ERROR
    except PrunedError as error:
        write_json(end_file, {"pruned": str(error)})
    except NotFiniteError as error:
        write_json(end_file, {"at": time.time(), "not_finite": asdict(error.problem)})
        return FAILED
    except Exception as error:
        message, trace_text = f"{type(error).__name__}: {one_line(error)}", "".join(traceback.format_exception(error))
        write_json(end_file, redact({"at": time.time(), "error": message, "traceback": trace_text}))
        return FAILED
    except SystemExit as error:
        write_json(end_file, {ENDED: error.code})
        if error.code != SAVED:
            raise
        # All ranks save and end together. With another exit code torch's agent would start them again.
    return 0


def _run(context: Context, frozen: Path, rank: int) -> dict[str, Any]:
    """Run the training of this process; only the first process records it."""
    setup_globals()
    register_resolvers()
    trial, check_rows = context(frozen.parents[1])  # for a trial, this leaves the sweep's config in Hydra's state
    cfg: Any = OmegaConf.load(frozen)
    HydraConfig.instance().cfg = cfg  # `set_config` requires types, which a file does not have
    if problems := [*hydra_guard.code(cfg.hydra)]:
        raise ConfigError(*problems)
    if rank:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    else:
        configure_log(cfg.hydra.job_logging, cfg.hydra.verbose)
        apply_verbosity()
    job = replace(hydra_job(trial), is_main_process=rank == 0, check_rows=check_rows)
    try:
        result = run(without_hydra(cfg), job)
    except BaseException as error:
        _errors.append(error)
        raise
    finally:
        _leave()
    return {"metrics": result.metrics, "link": result.link, "pushed": result.pushed, "tracked": result.tracked}


def _speak_into(path: Path) -> None:
    """Redirect all output of this process to a file, since the terminal belongs to the first process."""
    with open_for_appending(path) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def _leave() -> None:
    """Destroy the process group, whose threads would abort a process that ends by itself."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _exit(code: int) -> NoReturn:
    """End the process like Python does, but without the destruction of objects.

    Torch's destructor of a DDP reducer holds the GIL and joins a thread of gloo. If the other processes died during a
    collective operation, that thread waits for the GIL, and the process would never end.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(function: Callable[[], int]) -> int:
    try:
        return function()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else FAILED
    except BaseException:
        traceback.print_exc()
        return FAILED
