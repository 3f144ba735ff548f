"""One or several references of a generated text: the right texts, any of which will do."""

from __future__ import annotations

from collections.abc import Sequence

Reference = str | Sequence[str]


def texts_of(reference: Reference) -> list[str]:
    """All references of one row."""
    return [reference] if isinstance(reference, str) else list(reference)


def streams(references: Sequence[Reference]) -> list[list[str | None]]:
    """References as sacrebleu takes them: the first one of each row, the second ones, ...; None where there is none."""
    lists = [texts_of(reference) for reference in references]
    most = max(map(len, lists), default=1)
    return [[texts[i] if i < len(texts) else None for texts in lists] for i in range(most)]
