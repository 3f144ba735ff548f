"""Results by label: scores, the confusion matrix, and an error of each label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydratune.training.report.confusion import MOST_LABELS, confused_labels, confused_pairs, row_shares
from hydratune.training.report.rows import confidence, error_by_label, input_text, row_numbers
from hydratune.utils.figures import MOST_CELL_TEXTS, bars, heatmap
from hydratune.utils.report_page import Html, Row, clipped, figure, figures, paragraph, shortened, subsection, table

if TYPE_CHECKING:
    import pandas as pd

_BARS = 40  # labels with a bar
_EXAMPLE = 160  # characters of an example
_LARGE_CELLS = 4  # labels of a matrix with large cells


def label_blocks(tables: Mapping[str, pd.DataFrame], rows: Sequence[Mapping[str, Any]]) -> list[Html]:
    """Return the table of labels, worst first, the confusion matrix, and the most confused pairs."""
    per_label, matrix = tables.get("per_label"), tables.get("confusion_matrix")
    blocks: list[Html] = []
    if per_label is not None and len(per_label):
        worst_first = per_label.sort_values(["f1", "support"], ascending=[True, False], kind="stable")
        blocks.append(_scores(worst_first, matrix, rows))
        if 2 < len(per_label) <= _BARS:
            drawing = bars([*worst_first.index], [*worst_first["f1"]], "F1", (0, 1))
            blocks.append(figure("F1 by label, worst first", drawing, height=90 + 22 * len(per_label), widest=900))
    if matrix is not None and len(matrix):
        blocks += _confusion(matrix)
    return blocks


def _scores(per_label: pd.DataFrame, matrix: pd.DataFrame | None, rows: Sequence[Mapping[str, Any]]) -> Html:
    """Return the table of labels with an error of each one."""
    examples, numbers = error_by_label(rows), row_numbers(rows)
    confused: dict[str, str] = {}
    for pair in confused_pairs(matrix, len(matrix) ** 2) if matrix is not None else ():
        confused.setdefault(pair.true, f"{pair.predicted} ({pair.count})")
    columns = ["label", "rows", "precision", "recall", "F1"]
    columns += ["most often predicted instead"] if confused else []
    columns += ["most confident error"] if examples else []

    def cells(name: str, scores: pd.Series) -> Iterator[Any]:
        yield from (name, int(scores["support"]))
        yield from (float(scores[key]) for key in ("precision", "recall", "f1"))
        if confused:
            yield confused.get(name, "no errors")
        if examples:
            yield _example(examples[name], numbers[id(examples[name])]) if name in examples else "no errors"

    return table(columns, [Row([*cells(str(name), scores)]) for name, scores in per_label.iterrows()])


def _example(row: Mapping[str, Any], number: int) -> Html:
    probability = confidence(row)
    outcome = f"predicted {row['prediction']}" + (f" ({probability:.0%})" if probability is not None else "")
    example = shortened(input_text(row, ("label", "prediction")), _EXAMPLE)
    # The prediction comes first, since narrow pages cut the end of the text.
    return clipped(f"row {number}: {outcome}: {example}" if example else f"row {number}: {outcome}")


def _confusion(matrix: pd.DataFrame) -> Iterator[Html]:
    """Yield the matrix in shares of the true label, and the pairs that were confused most often."""
    shown = confused_labels(matrix)
    part, counts = row_shares(matrix).iloc[shown, shown], matrix.iloc[shown, shown]
    names = [str(matrix.index[i]) for i in shown]
    values = [[None if share != share else share for share in row] for row in part.to_numpy().tolist()]
    texts = [
        [f"{count:,}<br>{share:.0%}" if count else "" for count, share in zip(*pair, strict=True)]
        for pair in zip(counts.to_numpy().tolist(), part.to_numpy().tolist(), strict=True)
    ]
    side = (90 if len(shown) <= _LARGE_CELLS else 44 if len(shown) <= MOST_CELL_TEXTS else 26) * len(shown)
    title = "Rows by true and predicted label, colored by the share of the true label"
    drawn = figures(figure(title, heatmap(names, names, values, texts), height=130 + side, widest=330 + side))
    note = paragraph(
        f"The {len(shown)} of {len(matrix)} labels with the most wrong rows. Colors are shares of all rows of a label.",
        "muted",
    )
    yield subsection("Confusion matrix", note if len(matrix) > MOST_LABELS else "", drawn)
    pairs = confused_pairs(matrix)
    yield subsection(
        "Most confused pairs",
        table(
            ["true label", "predicted label", "rows", "share of the true label"],
            [(pair.true, pair.predicted, pair.count, pair.share) for pair in pairs],
        ),
    )
