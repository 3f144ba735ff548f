"""The interface of a task, as a dataset sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from hydratune.data.columns import BadRow, Column
from hydratune.data.label_names import LabelNames

if TYPE_CHECKING:
    from datasets import DatasetDict


class TaskSpec(Protocol):
    """The attributes and methods of a task that a dataset uses."""

    columns: Mapping[str, Column]
    inputs: Sequence[str]

    def keeps_order(self) -> bool:
        """Return whether consecutive rows belong together."""

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Return the rows and the label names in the order of ids.

        If `names` maps values to names, the rows have names as text.
        """

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Yield every row that the task cannot use."""
