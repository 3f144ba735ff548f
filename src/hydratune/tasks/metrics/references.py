"""References of generated texts: one or several right texts per row, any of which is correct."""

from __future__ import annotations

from collections.abc import Sequence

Reference = str | Sequence[str]


def texts_of(reference: Reference) -> list[str]:
    """Return all references of one row."""
    return [reference] if isinstance(reference, str) else list(reference)


def streams(references: Sequence[Reference]) -> list[list[str | None]]:
    """Return references in the form of sacreBLEU: the first one of each row, the second ones, ...; None if missing."""
    texts_by_row = [texts_of(reference) for reference in references]
    max_count = max(map(len, texts_by_row), default=1)
    return [[texts[i] if i < len(texts) else None for texts in texts_by_row] for i in range(max_count)]
