"""Tables of a run's predictions as csv, and as pictures where they can be seen at a glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

CONFUSION = "confusion_matrix"
_MOST_LABELS = 60  # of a picture
_INCH = 0.32  # a label


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> Iterator[Path]:
    """The files of each table: a csv, and a png of one that has not too many labels."""
    for name, table in tables.items():
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.csv"
        table.to_csv(path)
        yield path
        if len(table) <= _MOST_LABELS:
            picture = path.with_suffix(".png")
            (_matrix if name == CONFUSION else _bars)(table, picture)
            yield picture


def _matrix(table: pd.DataFrame, path: Path) -> None:
    """Rows of true labels, columns of predicted ones."""
    from sklearn.metrics import ConfusionMatrixDisplay

    axes = _axes(4 + _INCH * len(table), 4 + _INCH * len(table))
    display = ConfusionMatrixDisplay(table.to_numpy(), display_labels=list(table.columns))
    display.plot(ax=axes, xticks_rotation="vertical", cmap="Blues", colorbar=False)
    axes.figure.savefig(path)


def _bars(table: pd.DataFrame, path: Path) -> None:
    """F1 of each label, the worst at the top."""
    f1 = table["f1"].sort_values(ascending=False)
    axes = _axes(7, 1.5 + _INCH * len(f1))
    axes.barh([f"{label} ({support:.0f})" for label, support in table.loc[f1.index, "support"].items()], f1)
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 (rows of the test split)")
    axes.figure.savefig(path)


def _axes(width: float, height: float) -> Any:
    """Axes of a figure of its own, in inches; nothing global, so that it works in any thread."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=80).add_subplot()
