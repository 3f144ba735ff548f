"""Images from someone else are decoded, and never run: EPS is a program that Pillow gives to Ghostscript."""

import os
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import EpsImagePlugin, Image

from hydratune.tasks.image_classification import ImageClassification

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
BINARY = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(EPS).to_bytes(4, "little") + bytes(20) + EPS


@pytest.fixture
def canary(own_directory, monkeypatch):
    """A file that exists once a program called `gs` has run."""
    path = own_directory / "canary"
    program = own_directory / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {path}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return path


@pytest.mark.parametrize("content", [EPS, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("name", ["x.eps", "x.png", "x.jpg", "x", None])
def test_programs_are_no_images(canary, own_directory, content, name):
    """Whatever the name of the file says, and also inside a table."""
    if name:
        Path(name).write_bytes(content)
    value = str(own_directory / name) if name else {"bytes": content, "path": None}
    rows = Dataset.from_dict({"image": [value], "label": ["a"]})
    if not name:
        from datasets import Image as ImageFeature

        rows = rows.cast_column("image", ImageFeature())
    bad = [*ImageClassification().bad_rows({"train": rows}, ["a"])]
    assert [one.column for one in bad] == ["image"]
    with pytest.raises(OSError):  # noqa: PT011 (of Pillow)
        ImageClassification().prepare_inputs(rows, None, None)[0]["image"].load()
    assert not canary.exists()


def test_programs_would_run(canary, monkeypatch):
    """Positive control: Pillow starts Ghostscript."""
    monkeypatch.setattr(Image, "ID", ["EPS"])
    Path("x.eps").write_bytes(EPS)
    with pytest.raises(OSError), Image.open("x.eps") as image:  # noqa: PT011 (of Pillow)
        image.load()
    assert canary.exists()
