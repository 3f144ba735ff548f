"""Interface between a run and its tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.config.configurable import Configurable
from hydratune.utils.errors import Problem

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True)
class RunInfo:
    """Description of a run before it trains.

    Args:
        name: Short and readable name, for tables.
        directory: Directory of the run.
        params: Resolved values of everything that determines the training, flat; empty if they are recorded already.
        tags: Provenance: the git commit, the command, versions.
        key: Key of the run in its tracker, where another machine may have created it; None for a new key.
        waits: Whether the context waits at its end for the upload; False if the process continues with other runs.
        resume: Command that resumes the run after an interruption or an error; empty if it cannot be resumed.
    """

    name: str
    directory: Path
    params: Mapping[str, object]
    tags: Mapping[str, str]
    key: str | None = None
    waits: bool = True
    resume: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """The rows of one split, as a tracker names them.

    Args:
        split: `train`, `validation` or `test`.
        name: Name of the dataset.
        digest: Hash of the rows' content; the same rows have the same digest, whatever their source.
        source: Source of the rows, as JSON.
        rows: Number of rows; None for a stream.
        columns: Name -> type.
    """

    split: str
    name: str
    digest: str
    source: str
    rows: int | None
    columns: Mapping[str, str]


@dataclass(frozen=True)
class ModelInfo:
    """A folder of `save_pretrained` that is to be recorded as a model.

    Args:
        folder: Folder with weights, config, and tokenizer, below the run directory.
        name: Short name, for tables.
        step: Number of optimizer steps that trained it.
        metrics: Metrics of exactly these weights, under Trainer's names.
        pipeline: Task of `transformers.pipeline` that serves the model; None without one.
        example: Input of that pipeline: column -> text.
        params: Params that distinguish it from other models, e.g. the base checkpoint.
    """

    folder: Path
    name: str
    step: int
    metrics: Mapping[str, float]
    pipeline: str | None = None
    example: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)


class RunLog:
    """Log of one run in its tracker; this base class, which `tracking=none` uses, records nothing."""

    def callbacks(self, model: ModelInfo) -> list[TrainerCallback]:  # noqa: ARG002
        """Return the callbacks for Trainer; checkpoints are recorded like `model`."""
        return []

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Record the numbers among `values` under Trainer's names, e.g. `test_accuracy`."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record texts about the run."""

    def note(self, text: str) -> None:
        """Record a description of the run in Markdown, in place of the one before."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file of the run directory."""

    def dataset(self, split: DatasetInfo) -> None:
        """Record a dataset that the run reads."""

    def model(self, model: ModelInfo) -> None:
        """Record the final model."""

    def link(self) -> str | None:
        """Return the command that shows this run; None without such a command."""
        return None

    def is_blocked(self) -> bool:
        """Return whether the tracker refuses the run until the user intervenes."""
        return False


class Tracking(Configurable, ABC):
    """Base class of trackers, which record runs."""

    def check(self) -> Iterator[Problem]:
        """Yield the errors that can be found before anything heavy is imported."""
        yield from ()

    @abstractmethod
    def start(self, info: RunInfo) -> AbstractContextManager[RunLog]:
        """Return a context in which the run is recorded; leaving it by an exception marks the run as failed.

        A directory whose run was recorded before continues that record.
        """

    def deliver(self, directory: Path) -> None:
        """Upload what runs in and below a directory could not upload while the store was down."""

    def mark_dead_runs_killed(self) -> None:
        """Correct the records of runs whose processes ended without recording it."""


class NoTracking(Tracking):
    """Tracker that records nothing outside the run directory."""

    def start(self, info: RunInfo) -> AbstractContextManager[RunLog]:  # noqa: ARG002
        """Return a context with an empty log."""
        return nullcontext(RunLog())
