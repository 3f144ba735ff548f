"""What a run tells its tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.config.configurable import Configurable
from hydratune.utils.errors import Mistake

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before it trains.

    Args:
        name: Short and readable, for tables.
        directory: Where the run leaves its files.
        params: Resolved values of everything that determines the training, flat; empty where they are recorded already.
        tags: Provenance: the git commit, the command, versions.
        key: What finds the run again in its tracker, where another machine may have begun it; None for one of its own.
        waits: Whether the record is delivered when its context ends; False where the process goes on with other runs.
    """

    name: str
    directory: Path
    params: Mapping[str, object]
    tags: Mapping[str, str]
    key: str | None = None
    waits: bool = True


@dataclass(frozen=True)
class DatasetInfo:
    """The rows of one split, as a tracker names them.

    Args:
        split: `train`, `validation` or `test`.
        name: Of the dataset.
        digest: A hash of the rows' content; the same rows have the same one wherever they came from.
        source: What the rows were read from, as JSON.
        rows: How many; None of a stream.
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
        folder: Of weights, config and tokenizer, below the run's directory.
        name: Short, for tables.
        step: Optimizer steps that made it.
        metrics: Under Trainer's names, of these very weights.
        pipeline: The task of `transformers.pipeline` that serves it; None where there is none.
        example: An input of that pipeline: column -> text.
        params: What tells it from other models, e.g. the base checkpoint.
    """

    folder: Path
    name: str
    step: int
    metrics: Mapping[str, float]
    pipeline: str | None = None
    example: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)


class RunLog:
    """One run as its tracker sees it; this one, which `tracking=none` uses, keeps nothing."""

    def callbacks(self, model: ModelInfo) -> list[TrainerCallback]:  # noqa: ARG002
        """What Trainer is to call while it trains; `model` is what a checkpoint is recorded as."""
        return []

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Records the numbers among `values` under Trainer's names, e.g. `test_accuracy`."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Records words about the run."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Records a file of the run's directory."""

    def dataset(self, split: DatasetInfo) -> None:
        """Records what the run reads."""

    def model(self, model: ModelInfo) -> None:
        """Records the network."""

    def link(self) -> str | None:
        """The command that shows this run, where there is one."""
        return None

    def is_blocked(self) -> bool:
        """Return whether the tracker refuses the run until the user intervenes."""
        return False


class Tracking(Configurable, ABC):
    """Where runs are recorded."""

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        yield from ()

    @abstractmethod
    def start(self, facts: RunInfo) -> AbstractContextManager[RunLog]:
        """A context in which the run is recorded; leaving it by an exception marks the run as failed.

        A directory whose run was recorded before continues that record.
        """

    def deliver(self, directory: Path) -> None:
        """Delivers what runs in and below a directory had to tell while the store was down."""

    def heal(self) -> None:
        """Corrects records of runs whose processes ended without a word."""


class NoTracking(Tracking):
    """Records nothing outside the run's directory."""

    def start(self, facts: RunInfo) -> AbstractContextManager[RunLog]:  # noqa: ARG002
        """An empty log."""
        return nullcontext(RunLog())
