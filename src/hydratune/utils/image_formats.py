"""Images that data may have: their formats, and the folders of files that rows name."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydratune.utils import hub
from hydratune.utils.files import is_inside

FOLDERS = "HYDRATUNE_IMAGEFOLDERS"  # environment variable, which passes the folders on to child processes

_REPOSITORY = "datasets--"  # beginning of the names of directories in the cache of the Hub

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
    """Let rows name only images below these folders, in this process and its children; None allows all folders.

    Images that `datasets` has extracted from an archive below one of the folders are allowed, too.
    """
    os.environ.pop(FOLDERS, None)
    if folders is not None:
        # JSON, because names of folders can contain the separator of paths.
        os.environ[FOLDERS] = json.dumps([os.path.abspath(folder) for folder in folders])  # noqa: PTH100 (as `datasets`)


def is_allowed_image(path: str) -> bool:
    """Return whether a row may name this file, also if the file is a link."""
    folders = [*map(Path, json.loads(os.environ.get(FOLDERS) or "[]"))]
    if not folders:
        return True
    if "\0" in path:  # no file has such a path
        return False
    target = Path(path).resolve()
    return any(is_inside(target, folder) for folder in (*folders, *_extracted(target, folders)))


def _extracted(image: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the folder that an image was extracted into, if its archive is below one of these folders.

    `datasets` extracts archives of all datasets into one directory, where the name of each folder is the hash of the
    path of the archive.
    """
    root = hub.extracted_archives().resolve()
    if image.is_relative_to(root) and image != root:
        name = image.relative_to(root).parts[0]
        if any(folder.name.startswith(_REPOSITORY) and _has_archive(folder, name) for folder in folders):
            yield root / name


@functools.lru_cache(maxsize=1000)  # one answer for all images of an archive
def _has_archive(folder: Path, digest: str) -> bool:
    """Return whether a file below a folder has a path with this hash."""
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return any(hashlib.sha256(os.fsencode(path)).hexdigest() == digest for path in paths)
