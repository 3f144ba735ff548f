"""One of the processes of a run: `hydratune.launch` starts it, with a config that is the same for all."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import OmegaConf

from hydratune import collector, outside, signals, watchdog
from hydratune.composition import register_resolvers, without_hydra
from hydratune.errors import FAILED, SAVED, TERMINATED, USER_MISTAKE, ConfigError, PrunedError, one_line
from hydratune.facts import Part, hydra_job
from hydratune.files import write_json
from hydratune.hardware.environment import mark_as_rank
from hydratune.launch import ENDED
from hydratune.provenance import redact
from hydratune.run import run
from hydratune.sweep.retraining import row_check
from hydratune.utils.logs import guard_output

# An error holds the frames of the run, and with them the objects that must not be destroyed: see `_exit`.
_errors: list[BaseException] = []


def main(frozen: str, parent: str, *origin: str) -> int:
    """Trains with the others, and writes down how it ended.

    Args:
        frozen: The file with the config.
        parent: The number of the process that started this one.
        origin: Of a sweep: what the trial is found by.
    """
    mark_as_rank()
    collector.spare()
    signals.install_below(int(parent))
    watchdog.start(signals.is_finishing, signals.is_orphan, TERMINATED)
    guard_output()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of a look for weights that a step does not use
    rank, folder = int(os.environ["RANK"]), Path(frozen).parent
    end = folder / f"{rank}.json"
    end.unlink(missing_ok=True)  # of an earlier start
    if rank or origin:
        _speak_into(folder / f"{rank}.log")
    try:
        write_json(end, _run(frozen, rank, origin))
    except ConfigError as error:
        write_json(end, {"mistakes": [asdict(mistake) for mistake in error.mistakes]})
        return USER_MISTAKE
    except PrunedError as error:
        write_json(end, {"pruned": str(error)})
    except Exception as error:
        last, whole = f"{type(error).__name__}: {one_line(error)}", "".join(traceback.format_exception(error))
        write_json(end, redact({"at": time.time(), "error": last, "traceback": whole}))
        return FAILED
    except SystemExit as error:
        write_json(end, {ENDED: error.code})
        if error.code != SAVED:
            raise
        # All ranks save and end together. With another exit code torch's agent would start them again.
    return 0


def _run(frozen: str, rank: int, origin: Sequence[str]) -> dict[str, Any]:
    """The run, as `hydratune.run` has it; the first process alone writes it down."""
    setup_globals()
    register_resolvers()
    part = _part(origin) if origin else None  # which composes the sweep's config, and leaves it in Hydra's state
    checks = None if part else row_check(Path(frozen).parents[1])
    cfg: Any = OmegaConf.load(frozen)
    HydraConfig.instance().cfg = cfg  # `set_config` asks for types, which a file has not
    if mistakes := [*outside.code(cfg.hydra)]:
        raise ConfigError(*mistakes)
    if rank:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    else:
        configure_log(cfg.hydra.job_logging, cfg.hydra.verbose)
    job = replace(hydra_job(part), first=rank == 0, check_rows=checks)
    try:
        result = run(without_hydra(cfg), job)
    except BaseException as error:
        _errors.append(error)
        raise
    finally:
        _leave()
    return {"metrics": result.metrics, "link": result.link, "pushed": result.pushed, "tracked": result.tracked}


def _part(origin: Sequence[str]) -> Part:
    """Return the context of the trial, as its worker has it."""
    from hydratune.sweep.trial_context import reopen_trial, trial_context

    directory, trial_id, number = origin
    study, claim = reopen_trial(directory, trial_id)
    return trial_context(study, claim, int(number))


def _speak_into(path: Path) -> None:
    """Sends all that this process says into a file: the terminal is the first one's."""
    with path.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def _leave() -> None:
    """Ends the group of processes: its threads would abort a process that ends by itself."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _exit(code: int) -> NoReturn:
    """End the process, after what Python does at its end except for the destruction of objects.

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


def _exit_code(arguments: Sequence[str]) -> int:
    try:
        return main(*arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else FAILED
    except BaseException:
        traceback.print_exc()
        return FAILED


if __name__ == "__main__":
    _exit(_exit_code(sys.argv[1:]))
