"""Image classification: one label per image."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, ROW_WEIGHT, BadRow, Column, preview
from hydratune.tasks.base import EncodedData
from hydratune.tasks.labels import collect_labels, with_true_names
from hydratune.tasks.losses import WEIGHT_COLUMN, RowWeightCollator
from hydratune.tasks.single_label import SingleLabelTask
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line
from hydratune.utils.image_formats import is_allowed_image, restrict_image_formats

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from PIL.Image import Image


@dataclass(kw_only=True)
class ImageClassification(SingleLabelTask):
    """Image classification on columns `image`, an image of `datasets` or its path, and `label`, a string or an ID.

    Example:
        >>> ImageClassification(metrics=["accuracy"]).objectives()
        ['eval_loss', 'eval_accuracy']
    """

    auto_model: ClassVar[str] = "AutoModelForImageClassification"
    pipeline: ClassVar[str | None] = "image-classification"
    processor: ClassVar[str] = "image_processor"
    columns: ClassVar[Mapping[str, Column]] = {
        "image": Column("any"),
        "label": Column("label", target=True),
        ROW_WEIGHT: WEIGHT_COLUMN,
    }
    inputs: ClassVar[tuple[str, ...]] = ()  # no duplicates are detected, which would require decoding all images

    def images(self) -> list[str]:
        """Return the only input."""
        return ["image"]

    def arguments(self, objective: str) -> dict[str, Any]:
        """Also keep all columns, since images must reach the collator."""
        return super().arguments(objective) | {"remove_unused_columns": False}

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield files that cannot be opened as images, and images whose values have no known range."""
        yield from super().bad_rows(splits, label_names)
        for split, rows in splits.items():
            for row, value in enumerate(arrow_column(_as_images(rows), "image").to_pylist()):
                if value is not None and (reason := _why_no_image(value)):
                    path = preview(value["path"]) if value["path"] else ""
                    text = f"cannot read the image {path or COLUMN}: {reason}"
                    yield BadRow(split, row, "image", text, value=path)

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,  # noqa: ARG002 (images are processed batch by batch, in the collator)
        max_length: int | None,  # noqa: ARG002 (images have no length)
        label_names: list[str] | None,
    ) -> EncodedData:
        """Return rows of `image` and `labels`."""
        labels = collect_labels(splits, label_names)
        self.use_labels(labels.names)
        prepared = type(splits)()
        for split, rows in splits.items():
            ids = labels.encode(rows["label"])
            # `datasets` cannot add a column once an added one, such as labels that were renamed, is removed.
            images = with_true_names(_as_images(rows).add_column("labels", ids), rows, labels)
            prepared[split] = images.remove_columns("label")
        return EncodedData(prepared, labels.head(), loss=self.class_loss(splits, prepared, labels.names))

    def prepare_inputs(
        self,
        rows: Dataset,
        processor: Any,  # noqa: ARG002 (images are processed in the collator)
        max_length: int | None,  # noqa: ARG002 (images have no length)
    ) -> Dataset:
        """Return rows of `image`."""
        return _as_images(rows)

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator: `pixel_values` (batch, channels, height, width) float32, any `labels` (batch,) int64."""
        return RowWeightCollator(_Collator(processor))


def _as_images(rows: Any) -> Any:
    """Return rows whose paths or bytes are decoded as images when they are read."""
    from datasets import Image

    restrict_image_formats()
    feature = rows.features["image"]
    if isinstance(feature, Image):
        return rows
    if getattr(feature, "dtype", "") not in ("string", "large_string"):
        text = f"{KEY} must name a column of images or image paths, not of {getattr(feature, 'dtype', feature)} values"
        raise ConfigError(Problem("dataset.columns.image", text))
    return rows.cast_column("image", Image())


# Modes of Pillow whose values have a known range. `I` and `F` hold numbers of any size.
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", *_SIXTEEN_BIT)


def _why_no_image(value: Mapping[str, Any]) -> str:
    """Return the reason why an image cannot be used, from its header alone; empty if it can.

    Args:
        value: Bytes and path, as in Arrow.
    """
    from PIL import Image, UnidentifiedImageError

    restrict_image_formats()
    if not value["bytes"] and re.search("::|://", value["path"]):  # `datasets` reads from the file system that it names
        return "the path is not one of this file system"
    if not value["bytes"] and not is_allowed_image(value["path"]):
        return "the path is outside the working directory, and the run is from someone else"
    if not value["bytes"] and not _is_regular(value["path"]):  # a pipe has no end
        return "not a file"
    try:
        with Image.open(io.BytesIO(value["bytes"]) if value["bytes"] else value["path"]) as image:
            mode = image.mode
    except UnidentifiedImageError:
        return "not an image"
    except FileNotFoundError:
        return "file not found"
    except OSError as error:
        return one_line(error.strerror or error, 200)
    except (ValueError, Image.DecompressionBombError) as error:  # an invalid path, or more pixels than Pillow allows
        return one_line(error, 200)
    return "" if mode in _MODES else f"unsupported mode {mode}"


def _is_regular(path: str) -> bool:
    """Return whether a path names a regular file, or does not exist, which Pillow reports."""
    return not os.path.lexists(path) or os.path.isfile(path)  # noqa: PTH113 (Path raises errors for invalid paths)


def eight_bit(image: Image, mode: Literal["L", "RGB"]) -> Image:
    """Return an image with 8 bits per channel.

    Values of 16 bits are scaled from 65535 to 255, since Pillow would clip them to 255. Transparent pixels are drawn
    on white, as in browsers, since their own color is not visible.

    Args:
        image: Image in one of `_MODES`.
        mode: `L` for gray or `RGB` for color.
    """
    import numpy as np
    import PIL.Image

    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.uint32)
        image = PIL.Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in ("1", "L"):
        image = image.convert("RGB")  # some modes cannot be converted to gray
    return image.convert(mode)


@dataclass
class _Collator:
    """Collator that processes images as for the checkpoint: in color, or in gray if it has one channel."""

    processor: Any

    def __call__(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        import torch

        mean = getattr(self.processor, "image_mean", None)
        mode: Literal["L", "RGB"] = "L" if isinstance(mean, list | tuple) and len(mean) == 1 else "RGB"
        images = [eight_bit(row["image"], mode) for row in rows]
        pixels = self.processor(images, return_tensors="pt")["pixel_values"]
        labels = {"labels": torch.tensor([row["labels"] for row in rows])} if "labels" in rows[0] else {}
        return {"pixel_values": pixels, **labels}
