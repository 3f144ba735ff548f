"""Image formats that data may have."""

from __future__ import annotations

import functools

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
