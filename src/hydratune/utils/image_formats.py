"""Images that data may have: their formats, and the folders of files that rows name."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

FOLDERS = "HYDRATUNE_IMAGEFOLDERS"  # environment variable, which passes the folders on to child processes

# Formats of Pillow that its own code or a codec decodes. Another one, EPS, is a program that Ghostscript runs.
_FORMATS = frozenset(
    ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
)


@functools.cache
def restrict_image_formats() -> None:
    """Make Pillow open only images of `_FORMATS` in this process, also where `datasets` decodes them."""
    from PIL import Image

    Image.init()  # registers all formats, which Pillow otherwise does when it meets an unknown file
    Image.ID[:] = [name for name in Image.ID if name in _FORMATS]


def restrict_image_folders(folders: Sequence[Path] | None) -> None:
    """Let rows name only images below these folders, in this process and its children; None allows all folders."""
    os.environ.pop(FOLDERS, None)
    if folders is not None:
        os.environ[FOLDERS] = os.pathsep.join(str(folder.resolve()) for folder in folders)


def is_allowed_image(path: str) -> bool:
    """Return whether a row may name this file, also if the file is a link."""
    folders = os.environ.get(FOLDERS)
    return not folders or any(Path(path).resolve().is_relative_to(one) for one in folders.split(os.pathsep))
