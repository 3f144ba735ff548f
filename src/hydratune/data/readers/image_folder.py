"""Reader of folders of images with one folder per class: `folder/cat/1.png`, `folder/dog/2.png`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from hydratune.data.readers.scan import ReadOptions, Record
from hydratune.utils.errors import NODE, ConfigError, Problem

IMAGE_FOLDER = "imagefolder"  # the name of the format, as in `datasets`
_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
_SPLITS = frozenset(("dev", "eval", "test", "train", "training", "val", "valid", "validation"))


def is_image_folder(folder: Path) -> bool:
    """Return whether a folder contains images at any depth."""
    return next(_images(folder), None) is not None


def is_image(path: Path) -> bool:
    """Return whether a file has the name of an image."""
    return path.suffix.lower() in _SUFFIXES


def read_image_folder(folder: Path, options: ReadOptions) -> Iterator[Record]:  # noqa: ARG001 (a file's are parsed)
    """Yield one row per image, in sorted order: its path, and the name of its class if there are classes."""
    has_classes = "label" in image_folder_columns(folder)
    for path in sorted(_images(folder)):
        label = {"label": path.relative_to(folder).parts[0]} if has_classes else {}
        yield Record(0, {"image": str(path), **label})


def image_folder_columns(folder: Path) -> list[str]:
    """Return the columns of a folder of images.

    Raises:
        ConfigError: If there is no image, if images are both inside and next to the folders of classes, or if the
            folders are splits.
    """
    depths = {len(path.relative_to(folder).parts) > 1: path for path in _images(folder)}
    if not depths:
        raise ConfigError(Problem("dataset.files", f"{folder} has no images"))
    classes = {path.name for path in folder.iterdir() if path.is_dir() and is_image_folder(path)}
    if classes and {name.lower() for name in classes} <= _SPLITS:
        train = next((name for name in sorted(classes) if name.lower().startswith("train")), min(classes))
        text = f"{folder} has a folder for each split ({', '.join(sorted(classes))}), not for each class"
        hint = f"set the folder of each split, e.g. {NODE}dataset.files.train={folder / train}"
        raise ConfigError(Problem("dataset.files", text, hint))
    if len(depths) > 1:
        hint = "move it into the folder of its class"
        raise ConfigError(Problem("dataset.files", f"{depths[False]} is not in the folder of a class", hint))
    return ["image", "label"] if classes else ["image"]


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the paths of all images, since rows consist of paths."""
    return hashlib.sha256("\n".join(map(str, sorted(_images(folder)))).encode("utf-8", "surrogateescape")).hexdigest()


def _images(folder: Path) -> Iterator[Path]:
    """Yield the images at any depth, without hidden files and folders."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _images(path)
        elif is_image(path):
            yield path
