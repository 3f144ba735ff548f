"""Page of a run's report."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.training.report import probabilities
from hydratune.training.report.curves import curve_figures
from hydratune.training.report.inputs import ReportInputs
from hydratune.training.report.labels import label_blocks
from hydratune.training.report.rows import (
    cell,
    confidence,
    input_text,
    is_classification,
    row_numbers,
    target_keys,
    worst_errors,
)
from hydratune.utils.files import METRICS, PREDICTIONS, write_text
from hydratune.utils.report_page import (
    REPORT_PAGE,
    Html,
    code,
    facts,
    figures,
    link,
    page,
    paragraph,
    section,
    table,
)

if TYPE_CHECKING:
    import pandas as pd

Rows = Sequence[Mapping[str, Any]]
Thumbnail = Callable[[int], bytes] | None

_WORST, _SAMPLES = 20, 20  # rows in the table of errors, and in that of examples
_NUMBERING = "Rows are numbered from 0, without the header of a file."
_FILES = (METRICS, PREDICTIONS, "tables", "model", "config.yaml", "overrides.yaml", "hydratune.log")


def write(inputs: ReportInputs) -> Path:
    """Write the report into the run directory, and return its path."""
    path = inputs.directory / REPORT_PAGE
    write_text(path, report(inputs))
    return path


def report(inputs: ReportInputs) -> str:
    """Return the report as HTML: the result first, then the reasons."""
    lead, *more = inputs.summary
    return page(
        inputs.name,
        paragraph(lead, "lead"),
        *map(paragraph, more),
        facts(inputs.facts),
        section("Metrics", paragraph(f"Measured with the weights of step {inputs.best_step:,}."), _metrics(inputs)),
        section("Training", figures(*curve_figures(inputs))),
        *prediction_sections(inputs.rows, inputs.tables, inputs.thumbnail),
        section("Use the model", code(inputs.loading) if inputs.loading else ""),
        section("Command and files", code(inputs.command) if inputs.command else "", _places(inputs)),
    )


def prediction_sections(
    rows: Rows,
    tables: Mapping[str, pd.DataFrame],
    thumbnail: Thumbnail = None,
    split: str = "test",
) -> Iterator[Html]:
    """Yield the sections about predictions: results by label, probabilities, errors, and examples.

    Args:
        rows: Decoded rows, see `Task.predictions_with_labels`.
        tables: Results by label, see `Task.tables`.
        thumbnail: Function from the number of a row to a small WebP image; None without images.
        split: Name of the rows for the titles.
    """
    yield section(f"Labels ({split})", *label_blocks(tables, rows))
    yield section(f"Probabilities ({split})", *probabilities.blocks(rows))
    yield section(f"Errors ({split})", *_errors(rows, thumbnail))
    yield section(f"Predictions ({split})", *_examples(rows, thumbnail))


def _metrics(inputs: ReportInputs) -> Html:
    names = dict.fromkeys(name for column in inputs.columns.values() for name in column)
    splits = [*inputs.columns]
    return table(["metric", *splits], [(name, *(inputs.columns[s].get(name) for s in splits)) for name in names])


def _errors(rows: Rows, thumbnail: Thumbnail) -> Iterator[Html]:
    """Yield the worst errors with their inputs."""
    keys = target_keys(rows)
    if keys is None or not (isinstance(rows[0][keys[0]], float) or is_classification(rows, keys)):
        return
    errors = worst_errors(rows, _WORST)
    if isinstance(rows[0][keys[0]], float):
        yield paragraph(f"The {len(errors)} rows with the largest errors.")
    else:
        count = len(worst_errors(rows, len(rows)))
        has_confidence = any(confidence(row) is not None for row in errors)
        order = f", {'most confident' if has_confidence else 'worst'} first" if errors else ""
        part = f" The first {len(errors)} are listed." if len(errors) < count else ""
        yield paragraph(f"{count:,} of {len(rows):,} rows are wrong{order}.{part} {_NUMBERING}")
    yield _row_table(rows, thumbnail, errors, keys)


def _examples(rows: Rows, thumbnail: Thumbnail) -> Iterator[Html]:
    """Yield the first rows with their predictions, for tasks whose outputs are texts."""
    keys = target_keys(rows)
    if rows and keys and not isinstance(rows[0][keys[0]], float) and not is_classification(rows, keys):
        yield _row_table(rows, thumbnail, rows[:_SAMPLES], keys)
    elif rows and keys is None:  # e.g. several answers for each question
        names = [*rows[0]]
        yield table(names, [[cell(row.get(name)) for name in names] for row in rows[:_SAMPLES]])


def _row_table(all_rows: Rows, read: Thumbnail, rows: Rows, keys: tuple[str, str]) -> Html:
    """Return a table of some of the rows: place, input, target, prediction, and confidence."""
    target, prediction = keys
    positions = {id(row): i for i, row in enumerate(all_rows)}
    numbers = row_numbers(all_rows)
    texts = [input_text(row, keys) for row in rows]
    confidences = [confidence(row) for row in rows]
    columns = ["row", *["image"] * bool(read), *["input"] * any(texts), "true", "predicted"]
    columns += ["confidence"] * any(value is not None for value in confidences)
    cells = []
    for row, text, probability in zip(rows, texts, confidences, strict=True):
        line: list[Any] = [numbers[id(row)]]
        line += [_image(read(positions[id(row)]))] if read else []
        line += [text] if any(texts) else []
        line += [cell(row[target]), cell(row[prediction])]
        cells.append([*line, probability][: len(columns)])
    return table(columns, cells)


def _image(data: bytes) -> Html:
    return Html(f'<img class="thumbnail" alt="" src="data:image/webp;base64,{base64.b64encode(data).decode()}">')


def _places(inputs: ReportInputs) -> Html:
    links = [link(name, name) for name in _FILES if (inputs.directory / name).exists()]
    return facts({"MLflow": inputs.link, "files": Html(" · ".join(links))})
