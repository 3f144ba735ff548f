"""Trainings in processes of their own that end themselves, by SIGKILL, in the middle of what they do."""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydratune.utils.files import write_json, write_text
from preloaded import fork

KILLED = -signal.SIGKILL


def train(overrides: Sequence[str], folder: Path, **kill: int) -> int:
    """Trains in `folder`, or goes on there; returns the exit code.

    Args:
        overrides: As typed.
        folder: Of the run.
        kill: `step`: at the end of that step; `ask`: asks it to end, as Slurm would, before the end of that step;
            `evaluate`: asks it to end within the evaluation of that step; `write`: before that many writes of its
            checkpoints; `calibrate`: after the training, before the calibration.
    """
    process = fork(_train, list(overrides), folder, kill)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def outcome(folder: Path) -> dict[str, Any]:
    """All that a finished run says of itself and that is no time: its weights, its metrics, its history.

    Where it was recorded, also what MLflow has of the one run of that directory: its state and each point as it is.
    """
    import safetensors.torch

    told = json.loads((folder / "metrics.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    weights = safetensors.torch.load_file(folder / "model" / "model.safetensors")
    return {
        "weights": {name: weight.tolist() for name, weight in weights.items()},
        "metrics": _without_times(told),
        "history": [_without_times(entry) for entry in history],
        "recorded": _recorded(folder) if (folder / "tracking.jsonl").is_file() else None,
    }


def recorded_in(folder: Path) -> list[str]:
    """Overrides that record a run in a store of its directory's own, which is there."""
    return [f"tracking.uri=sqlite:///{folder}.db"]


def _recorded(folder: Path) -> dict[str, Any]:
    from hydratune.tracking.client import connect

    client = connect(recorded_in(folder)[0].partition("=")[2])
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    measured = ("runtime", "_per_second", "peak_memory_gib")
    names = [name for name in found.data.metrics if not name.endswith(measured) and not name.startswith("system/")]
    points = {name: client.get_metric_history(found.info.run_id, name) for name in names}
    values = {name: sorted((one.step, one.value) for one in every) for name, every in points.items()}
    assert all(len({step for step, _ in every}) == len(every) for every in values.values()), "a step is there twice"
    return {"status": found.info.status, "points": values}


def _without_times(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not name.endswith(("runtime", "_per_second"))}


def _train(overrides: list[str], folder: Path, kill: dict[str, int]) -> None:
    from hydratune.config import composition
    from hydratune.config.composition import Request
    from hydratune.training import run, setup
    from hydratune.training.job import Job
    from hydratune.utils import signals

    gc.freeze()  # what it was forked with is no garbage
    tracked = any(override.startswith("tracking") for override in overrides)
    request = Request((*overrides, *([] if tracked else ["tracking=none"])))
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_add(request))
    multiprocessing.set_start_method("fork", force=True)  # as in a process that a user starts; for data workers
    make = setup.make_trainer
    made: list[Any] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        made.append(make(*args, **kwargs))
        if "step" in kill:
            made[0].add_callback(_killer(kill["step"], signal.SIGKILL))
        if "ask" in kill:
            signals.install()
            made[0].add_callback(_killer(kill["ask"], signal.SIGUSR1))
        if "evaluate" in kill:
            signals.install()
            made[0].add_callback(_killer(kill["evaluate"], signal.SIGUSR1, "on_prediction_step"))
        return made[0]

    setup.make_trainer = watched
    if "calibrate" in kill:
        signal_before("hydratune.training.run:calibrate", signal.SIGKILL)
    if "write" in kill:
        _kill_at_write(kill["write"])
    folder.mkdir(exist_ok=True)
    run.run(composition.without_hydra(cfg), Job(folder, overrides, dict(cfg.hydra.runtime.choices)))
    (folder / "history.json").write_text(json.dumps(made[0].state.log_history))


def _killer(step: int, number: int, event: str = "on_step_end") -> Any:
    from transformers import TrainerCallback

    def kill(args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG001
        if state.global_step == step:
            os.kill(os.getpid(), number)

    killer = TrainerCallback()
    setattr(killer, event, kill)
    return killer


def _kill_at_write(number: int) -> None:
    """Ends this process before the so-and-so-manieth thing that a checkpoint does to the disk."""
    import pathlib
    import shutil

    import safetensors.torch
    import torch
    import transformers.modeling_utils
    from transformers import TrainerState

    from hydratune.training.trainer import checkpoint_files

    done = [0]

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if any(
                checkpoint_files.UNFINISHED in str(one) or checkpoint_files.PREFIX in str(one)
                for one in [*args, *kwargs.values()]
            ):
                done[0] += 1
                if done[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(module, name, call)

    for module, name in (
        (torch, "save"),
        (safetensors.torch, "save_file"),
        (transformers.modeling_utils, "safe_save_file"),
        (TrainerState, "save_to_json"),
        (checkpoint_files, "write_json"),
        (checkpoint_files, "_sync"),
        (pathlib.Path, "rename"),
        (pathlib.Path, "unlink"),
        (pathlib.Path, "rmdir"),
        (shutil, "rmtree"),
    ):
        counted(module, name)


_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


def kill_before_write(number: int, folder: str) -> None:
    """End this process before it changes the files below a folder, or commits to a database, for the n-th time.

    Args:
        number: Counts from 1.
        folder: An absolute path.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    done = [0]

    def count(*_: Any) -> None:
        done[0] += 1
        if done[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, values: tuple[Any, ...]) -> None:
        writes = name in _EVENTS or (name == "open" and isinstance(values[2], int) and values[2] & os.O_ACCMODE)
        if writes and isinstance(values[0], str | os.PathLike) and str(Path(values[0]).absolute()).startswith(folder):
            count()

    event.listen(Engine, "commit", count)
    sys.addaudithook(audit)


def signal_before(function: str, number: int) -> None:
    """Send a signal to this process whenever it calls a function.

    Args:
        function: E.g. `package.module:Class.method`.
        number: The signal.
    """
    module, _, path = function.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, call)


def kill_before_write_of_finish(number: int, folder: str) -> None:
    """Do the same for `sweep finish`, with metrics that nobody trained."""
    from hydratune.cli import sweep_finish

    sweep_finish.train = write_metrics  # type: ignore[assignment]
    kill_before_write(number, folder)


def kill_before_write_of_push(number: int, folder: str) -> None:
    """Do the same for `push`, which may reach the Hub of the test."""
    reach_hub()
    kill_before_write(number, folder)


def reach_hub() -> None:
    """Let this process reach the Hub of the test."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True


def write_metrics(arguments: Sequence[str], continued: Path | None = None, **_: object) -> int:
    """Stand in for a training: write what a finished run has."""
    (place,) = [text for text in arguments if text.startswith("hydra.run.dir=")] or [f'="{continued}"']
    directory = Path(place.partition("=")[2].strip('"'))
    (directory / ".hydra").mkdir(parents=True, exist_ok=True)
    typed = [text for text in arguments if "=" in text and not text.startswith("hydra.")]
    write_text(directory / ".hydra" / "overrides.yaml", json.dumps(typed))
    write_json(directory / "metrics.json", {"eval_accuracy": 0.5, "eval_runtime": 1, "test_accuracy": 0.4})
    return 0
