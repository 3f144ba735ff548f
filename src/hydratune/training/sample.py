"""Sample of the test predictions as a table that MLflow shows, and compares across runs row by row."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.utils.files import make_directory, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE = "predictions_sample.json"
ROWS = 100
_IMAGES = "table_images/predictions_sample"  # the folder in which MLflow's own tables store their images
_PIXELS = 64  # the longer side of a thumbnail
_FIRST = ("row", "prediction", "predictions")  # MLflow joins runs by the first column and compares the second one


def write_sample(directory: Path, decoded: Sequence[Mapping[str, Any]], rows: Any) -> Iterator[tuple[Path, str]]:
    """Write the table, and a thumbnail of each image.

    Args:
        directory: Run directory.
        decoded: Prediction for each row, at least one.
        rows: Test rows in the same order if there is one prediction for each; only images are read from them.

    Yields:
        Each file with the artifact folder that it belongs to.
    """
    table = [{"row": i, **prediction} for i, prediction in enumerate(decoded[:ROWS])]
    if len(rows) == len(decoded):
        for row, (path, image) in zip(table, _thumbnails(directory, rows), strict=False):
            row["image"] = image
            yield path, _IMAGES
    columns = sorted(table[0], key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    cells = [[_cell(row.get(name)) for name in columns] for row in table]
    write_json(directory / SAMPLE, {"columns": columns, "data": cells})  # as mlflow.log_table writes it
    yield directory / SAMPLE, ""


def _thumbnails(directory: Path, rows: Any) -> Iterator[tuple[Path, dict[str, str]]]:
    """Write a thumbnail of each image of the rows, and yield its path with the cell that shows it."""
    from datasets import Image

    column = next((name for name, feature in rows.features.items() if isinstance(feature, Image)), None)
    if column is None:
        return
    make_directory(directory / _IMAGES)
    files = rows.select_columns([column]).cast_column(column, Image(decode=False))
    for i in range(min(ROWS, len(files))):
        name = f"{_IMAGES}/{i}.webp"
        _small(files[i][column]).save(directory / name)
        yield directory / name, {"type": "image", "filepath": name, "compressed_filepath": name}


def thumbnail_reader(rows: Any) -> Callable[[int], bytes] | None:
    """Return a function from the number of a row to a small WebP copy of its image; None if the rows have no images."""
    from datasets import Image

    column = next((name for name, feature in (rows.features or {}).items() if isinstance(feature, Image)), None)
    if column is None:
        return None
    files = rows.select_columns([column]).cast_column(column, Image(decode=False))

    def read(number: int) -> bytes:
        buffer = io.BytesIO()
        _small(files[number][column]).save(buffer, "WEBP")
        return buffer.getvalue()

    return read


def _small(file: Mapping[str, Any]) -> Image:
    """Return a small copy of an image.

    A JPEG file is decoded at about that size, which takes a tenth of the time.

    Args:
        file: Bytes or path, as `datasets` stores an image.
    """
    import PIL.Image
    from PIL import ImageOps

    from hydratune.tasks.image_classification import eight_bit
    from hydratune.utils.image_formats import restrict_image_formats

    restrict_image_formats()
    with PIL.Image.open(io.BytesIO(file["bytes"]) if file["bytes"] else file["path"]) as image:
        image.draft("RGB", (_PIXELS, _PIXELS))
        thumbnail = eight_bit(ImageOps.exif_transpose(image), "RGB")
    thumbnail.thumbnail((_PIXELS, _PIXELS))
    return thumbnail


def _cell(value: Any) -> Any:
    """Return a value as MLflow's tables show it: text, a number, an image, or the JSON of a list or dict."""
    is_image = isinstance(value, dict) and value.get("type") == "image"
    return value if is_image or isinstance(value, str | int | float | None) else json.dumps(value, ensure_ascii=False)
