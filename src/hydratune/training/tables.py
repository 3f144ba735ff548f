"""Tables of a run's predictions as CSV files, and as plots if they are small."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.utils.errors import optional_record
from hydratune.utils.escaping import escape_table
from hydratune.utils.files import atomic_write
from hydratune.utils.plotting import literal, no_warnings, shortened

if TYPE_CHECKING:
    import pandas as pd

CONFUSION = "confusion_matrix"
_MOST_LABELS = 60  # maximum labels of a plot
_INCH = 0.32  # inches per label


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> Iterator[Path]:
    """Write a CSV for each table, and a plot if it has at most 60 labels; yield the files that could be written."""
    for name, table in tables.items():
        for path, write_file in _files(name, table, folder / f"{name}.csv"):
            with optional_record(f"{folder.name}/{path.name}"):
                folder.mkdir(exist_ok=True)
                write_file(path)
                yield path


def _files(name: str, table: pd.DataFrame, path: Path) -> Iterator[tuple[Path, Callable[[Path], Any]]]:
    """Yield each file of a table with the function that writes it."""
    yield path, escape_table(table).to_csv
    if len(table) <= _MOST_LABELS:
        draw = _matrix if name == CONFUSION else _bars
        yield path.with_suffix(".png"), functools.partial(draw, table)


def _matrix(table: pd.DataFrame, path: Path) -> None:
    """Draw true labels as rows and predicted labels as columns."""
    from sklearn.metrics import ConfusionMatrixDisplay

    axes = _axes(4 + _INCH * len(table), 4 + _INCH * len(table))
    display = ConfusionMatrixDisplay(
        table.to_numpy(), display_labels=[literal(shortened(label)) for label in table.columns]
    )
    display.plot(ax=axes, xticks_rotation="vertical", cmap="Blues", colorbar=False)
    _save(axes, path)


def _bars(table: pd.DataFrame, path: Path) -> None:
    """Draw the F1 score of each label, the worst at the top."""
    f1 = table["f1"].sort_values(ascending=False)
    axes = _axes(7, 1.5 + _INCH * len(f1))
    names = [
        f"{literal(shortened(label))} ({support:.0f})" for label, support in table.loc[f1.index, "support"].items()
    ]
    axes.barh(range(len(f1)), f1, tick_label=names)  # by position: shortened names may be equal
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 (rows of the test split)")
    _save(axes, path)


def _axes(width: float, height: float) -> Any:
    """Return the axes of a new figure of a size in inches, without global state, so that any thread can draw."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=80).add_subplot()


def _save(axes: Any, path: Path) -> None:
    """Write the figure atomically."""
    with no_warnings(), atomic_write(path) as temp_path:
        axes.figure.savefig(temp_path, format="png")
