"""Tables of a run's predictions as CSV files and as plots."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.training.report.confusion import confused_labels, row_shares
from hydratune.utils.errors import optional_record
from hydratune.utils.escaping import escape_table
from hydratune.utils.files import atomic_write, make_directory, write_text
from hydratune.utils.plotting import literal, no_warnings, shortened

if TYPE_CHECKING:
    import pandas as pd

CONFUSION, RELIABILITY = "confusion_matrix", "reliability"
_MOST_BARS = 40
_TEXT = 8  # points
_DARK = 0.5  # share from which a cell is so dark that its text is white
_INCH = 0.32  # inches per label


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> Iterator[Path]:
    """Write a CSV and a plot for each table; yield the files that could be written."""
    for name, table in tables.items():
        for path, write_file in _files(name, table, folder / f"{name}.csv"):
            with optional_record(f"{folder.name}/{path.name}"):
                make_directory(folder)
                write_file(path)
                yield path


def _files(name: str, table: pd.DataFrame, path: Path) -> Iterator[tuple[Path, Callable[[Path], Any]]]:
    """Yield each file of a table with the function that writes it."""
    yield path, lambda target: write_text(target, escape_table(table).to_csv())
    if len(table):
        draw = {CONFUSION: _matrix, RELIABILITY: _reliability}.get(name, _bars)
        yield path.with_suffix(".png"), functools.partial(draw, table)


def _matrix(table: pd.DataFrame, path: Path) -> None:
    _save(draw_matrix(table), path)


def draw_matrix(table: pd.DataFrame) -> Any:
    """Return axes with true labels as rows and predicted labels as columns, colored by the share of the true label.

    Of many labels, only those with the most wrong rows are drawn.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    shown = confused_labels(table)
    shares, counts = row_shares(table).iloc[shown, shown], table.iloc[shown, shown].to_numpy()
    axes = _axes(4 + _INCH * len(shown), 4 + _INCH * len(shown))
    labels = [literal(shortened(label)) for label in shares.columns]
    display = ConfusionMatrixDisplay(shares.fillna(0).to_numpy(), display_labels=labels)
    colors = {"vmin": 0, "vmax": 1}
    display.plot(ax=axes, xticks_rotation="vertical", cmap="Blues", colorbar=False, include_values=False, im_kw=colors)
    for i, j in zip(*counts.nonzero(), strict=True):
        color = "white" if shares.iat[i, j] > _DARK else "black"
        axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=color, fontsize=_TEXT)
    part = f"{len(shown)} of {len(table)} labels, those with the most errors; " * (len(shown) < len(table))
    axes.set_title(f"{part}rows, colored by the share of the true label", fontsize=_TEXT + 1)
    return axes


def _bars(table: pd.DataFrame, path: Path) -> None:
    """Draw the F1 score of each label, the worst at the top; of many labels, only the worst ones."""
    f1 = table["f1"].sort_values(ascending=True, kind="stable")[:_MOST_BARS][::-1]
    axes = _axes(7, 1.5 + _INCH * len(f1))
    names = [
        f"{literal(shortened(label))} ({support:.0f})" for label, support in table.loc[f1.index, "support"].items()
    ]
    bars = axes.barh(range(len(f1)), f1, tick_label=names)  # by position: shortened names may be equal
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=_TEXT)  # a bar of 0 would look like a missing value
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("F1 on test")
    part = f"the worst {len(f1)} of {len(table)} labels" if len(f1) < len(table) else "F1 by label"
    axes.set_title(f"{part} (number of test rows)", fontsize=_TEXT + 2)
    _save(axes, path)


def _reliability(table: pd.DataFrame, path: Path) -> None:
    """Draw the share of correct predictions over their confidence; the diagonal is a perfect calibration."""
    axes = _axes(5, 5)
    axes.plot([0, 1], [0, 1], color="gray", linestyle="dashed", linewidth=1)
    axes.plot(table["confidence"], table["accuracy"], marker="o")
    for confidence, accuracy, rows in table.itertuples(index=False):
        axes.annotate(f"{rows:,}", (confidence, accuracy), textcoords="offset points", xytext=(5, -10), fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("probability of the prediction (numbers: test rows)")
    axes.set_ylabel("accuracy")
    _save(axes, path)


def _axes(width: float, height: float) -> Any:
    """Return the axes of a new figure of a size in inches, without global state, so that any thread can draw."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=80).add_subplot()


def _save(axes: Any, path: Path) -> None:
    """Write the figure atomically."""
    with no_warnings(), atomic_write(path) as temp_path:
        axes.figure.savefig(temp_path, format="png")
