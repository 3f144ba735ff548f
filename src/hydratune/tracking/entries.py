"""Entries of a run's journal: each kind has a form, and lines of `tracking.jsonl` that do not have it are skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Interval

from hydratune.utils.stored_files import StoredFileError, parse_stored

Number = Annotated[int, Interval(ge=0, lt=2**63)]  # what databases store: milliseconds since 1970, steps, and rows
Registration = tuple[str | None, str | None]  # name of a model in MLflow's registry, and alias of the new version
Datasets = Mapping[str, Sequence[str]]  # prefix of a metric -> name and digest of the rows it was measured on


class Point(NamedTuple):
    """A metric's value at a step; `at` is in ms since 1970."""

    name: str
    value: float
    at: Number
    step: Number


@dataclass(frozen=True)
class _Run:
    key: str
    experiment: str
    name: str
    tags: dict[str, str]
    began: Number
    uri: str


@dataclass(frozen=True)
class _Params:
    params: dict[str, str]


@dataclass(frozen=True)
class _Tags:
    tags: dict[str, str]


@dataclass(frozen=True)
class _Metrics:
    points: list[Point]


@dataclass(frozen=True)
class _Artifact:
    path: str
    folder: str


@dataclass(frozen=True)
class _Dataset:
    split: str
    name: str
    digest: str
    source: str
    rows: Number | None
    columns: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A `ModelInfo` in plain values, as the journal stores it.

    Args:
        folder: Folder to upload, below the run directory.
        name: Short name, for tables.
        step: Number of optimizer steps that trained it.
        metrics: Points of the run that were measured on these weights.
        params: Params that distinguish it from other models.
        datasets: Datasets on which the points were measured.
        staged: Whether the folder exists for the upload alone and is removed afterwards.
        registered_name: Name of the model in MLflow's registry; None for no registration.
        alias: Alias of the registered version; None for no alias.
    """

    folder: str
    name: str
    step: Number
    metrics: Sequence[Point]
    params: Mapping[str, str]
    datasets: Datasets = field(default_factory=dict)
    staged: bool = False
    registered_name: str | None = None
    alias: str | None = None

    @property
    def registration(self) -> Registration:
        """Name and alias in the registry."""
        return self.registered_name, self.alias


@dataclass(frozen=True)
class _Status:
    status: Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
    ended: Number


_FORMS: Mapping[str, type] = {
    "run": _Run,
    "continue": _Tags,
    "params": _Params,
    "tags": _Tags,
    "metrics": _Metrics,
    "artifact": _Artifact,
    "dataset": _Dataset,
    "model": ModelEntry,
    "status": _Status,
}


class Entry(NamedTuple):
    """One line of a journal: its kind, its values, and the byte at which the next line begins."""

    kind: str
    values: dict[str, Any]
    end: int


def parse_entry(content: Any, line: bytes, end: int) -> Entry | None:
    """Return the entry of a line; None if it does not have the form of its kind.

    Other keys, e.g. of a later version, are left in the values, so that the upload reports that it lacks them.

    Args:
        content: JSON document of the line.
        line: The line.
        end: Byte at which the next line begins.
    """
    kind = content.get("kind") if isinstance(content, dict) else None
    form = _FORMS.get(kind) if isinstance(kind, str) else None
    if form is None:
        return None
    try:
        values = {**content, **vars(parse_stored(line, form))}
    except StoredFileError:
        return None
    return Entry(values.pop("kind"), values, end)
