"""Line about the labels that a model predicts worst, from the tables of its run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydratune.utils.escaping import escape_control
from hydratune.utils.short_forms import number_text
from hydratune.utils.stored_files import open_stored

_NAMED = 5  # maximum number of listed labels


def label_line(tables: Path) -> str:
    """Return the label with the lowest F1 score, and the labels that occur but are never predicted.

    Args:
        tables: Directory with `per_label.csv` and, if each row has one label, `confusion_matrix.csv`.

    Returns:
        The text; empty without the tables, or if all labels have the same score.
    """
    parts = []
    with suppress(OSError, ValueError, IndexError):
        scores = [(float(row[3]), -float(row[4]), row[0]) for row in _cells(tables / "per_label.csv") if float(row[4])]
        if len({score for score, *_ in scores}) > 1:
            f1, support, name = min(scores)
            parts.append(f"lowest F1: {name} ({number_text(f1)}, {-support:,.0f} rows)")
    with suppress(OSError, ValueError, IndexError):
        rows = _cells(tables / "confusion_matrix.csv")
        counts = [[float(cell) for cell in row[1:]] for row in rows]
        missing = [row[0] for i, row in enumerate(rows) if any(counts[i]) and not any(line[i] for line in counts)]
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        parts += [f"never predicted: {', '.join(missing[:_NAMED])}{more}"] if missing else []
    return escape_control("; ".join(parts))


def _cells(path: Path) -> Sequence[list[str]]:
    with open_stored(path) as file:
        return [*csv.reader(io.StringIO(file.read().decode("utf-8"), newline=""))][1:]
