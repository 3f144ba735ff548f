"""What a run tells its tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.errors import Mistake

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it trains.

    Args:
        name: Short and readable, for tables.
        directory: Where the run leaves its files.
        params: What the user chose, flat.
        tags: Provenance: the git commit, the command, versions.
    """

    name: str
    directory: Path
    params: Mapping[str, object]
    tags: Mapping[str, str]


class RunLog:
    """One run as its tracker sees it; this one, which `tracking=none` uses, keeps nothing."""

    def callbacks(self) -> list[TrainerCallback]:
        """What Trainer is to call while it trains."""
        return []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Records values under Trainer's names, e.g. `test_accuracy`."""

    def artifact(self, path: Path) -> None:
        """Records a file."""

    def link(self) -> str | None:
        """The command that shows this run, where there is one."""
        return None


class Tracking(ABC):
    """Where runs are recorded."""

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        yield from ()

    @abstractmethod
    def start(self, facts: Facts) -> AbstractContextManager[RunLog]:
        """A context in which the run is recorded; leaving it by an exception marks the run as failed."""


class NoTracking(Tracking):
    """Records nothing outside the run's directory."""

    def start(self, facts: Facts) -> AbstractContextManager[RunLog]:  # noqa: ARG002
        """An empty log."""
        return nullcontext(RunLog())
