"""Images from someone else are decoded, and never run: EPS is a program that Pillow gives to Ghostscript."""

import os
import shutil
from pathlib import Path

import PIL.Image
import pytest
from datasets import Dataset, DatasetDict
from datasets.utils.extract import ExtractManager
from omegaconf import OmegaConf
from PIL import EpsImagePlugin, Image

from hydratune.config import user_settings
from hydratune.tasks.image_classification import ImageClassification
from hydratune.utils import hub

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


@pytest.fixture
def image_files(own_directory):
    """Images in the current directory and outside it, and rows that name the one outside."""
    private = own_directory.parent / "private"
    for folder in (private, own_directory / "a"):
        folder.mkdir()
        PIL.Image.new("L", (2, 2)).save(folder / "x.png")
    (own_directory / "link.png").symlink_to(private / "x.png")
    (own_directory / "linked").symlink_to(private)
    return private


NO_DATA = OmegaConf.create({"dataset": {}})
OUTSIDE = [
    "{}/x.png",
    "../private/x.png",
    "a/../../private/x.png",
    "link.png",
    "linked/x.png",
    "/proc/self/cwd/link.png",
]


def bad_rows(path, as_struct):
    """The bad rows of a dataset with one image, given by its path or as `datasets` stores it."""
    rows = Dataset.from_dict({"image": [{"bytes": None, "path": path} if as_struct else path], "label": ["a"]})
    if as_struct:
        from datasets import Image as ImageFeature

        rows = rows.cast_column("image", ImageFeature())
    return [*ImageClassification().bad_rows(DatasetDict(train=rows), ["a"])]


@pytest.mark.parametrize("as_struct", [False, True])
@pytest.mark.parametrize("path", OUTSIDE)
def test_rows_of_another_project_name_no_image_elsewhere(image_files, path, as_struct):
    """The run of someone else would be trained on the user's images, and record them."""
    path = path.format(image_files)
    assert bad_rows(path, as_struct) == []  # positive control: the user's own rows may name any image
    user_settings.restrict_images(NO_DATA, ["seed"])
    assert [(row.row, row.column) for row in bad_rows(path, as_struct)] == [(0, "image")]


@pytest.mark.parametrize("name", ["reference:/a::ref.json", "simplecache::x.png", "zip:/x.png::a.zip"])
def test_image_of_another_file_system_is_refused(image_files, own_directory, name):
    """`datasets` would read what the name says in fsspec's way, and not the file that was checked."""
    path = own_directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (image_files / "x.png").rename(path)
    assert [(row.row, row.column) for row in bad_rows(name, as_struct=True)] == [(0, "image")]


@pytest.mark.parametrize("typed", ["dataset", "dataset.files.test", "dataset.path"])
def test_typed_data_may_name_any_image(image_files, typed):
    """The user has chosen it."""
    user_settings.restrict_images(NO_DATA, [typed])
    assert bad_rows(f"{image_files}/x.png", as_struct=False) == []


@pytest.mark.parametrize("path", ["a/x.png", "{}/a/x.png", "a/../a/x.png"])
def test_rows_of_another_project_name_images_inside(image_files, own_directory, path):
    """Its own images, by paths relative to the current directory or absolute ones."""
    assert image_files.is_dir()
    user_settings.restrict_images(NO_DATA, ["dataset.max_samples"])
    assert bad_rows(path.format(own_directory), as_struct=False) == []


@pytest.mark.parametrize("name", ["x:..:y", "x:..", "..:x"])
def test_name_of_a_dataset_allows_no_other_folder(image_files, own_directory, name):
    """Names can contain the character that separates paths in variables of the environment."""
    private = own_directory.parent / "x.png"
    shutil.copy(image_files / "x.png", private)
    user_settings.restrict_images(OmegaConf.create({"dataset": {"path": name}}), ["seed"])
    assert [(row.row, row.column) for row in bad_rows(str(private), as_struct=False)] == [(0, "image")]


REPOSITORIES = {"dataset.path": {"path": "me/named"}, "sources": {"sources": {"a": {"path": "me/named"}}}}


@pytest.fixture
def cached(monkeypatch, image_files):
    """Return a function that puts an image into the cache of the Hub, as a file or from an archive of a dataset."""
    monkeypatch.setenv("HF_HOME", str(image_files))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_DATASETS_DOWNLOADED_DATASETS_PATH"):
        monkeypatch.delenv(name, raising=False)

    def put(dataset, is_archive):
        snapshot = hub.cached_directory("datasets", dataset) / "snapshots" / "0123"
        blob = hub.cached_directory("datasets", dataset) / "blobs" / "abcd"
        for folder in (snapshot, blob.parent):
            folder.mkdir(parents=True)
        image = snapshot / "x.png"
        if is_archive:
            shutil.make_archive(str(snapshot / "a"), "zip", image_files, "x.png")
            manager = ExtractManager(str(hub.extracted_archives().parent))
            image = Path(manager.extract(str(snapshot / "a.zip"))) / "x.png"
        else:
            shutil.copy(image_files / "x.png", blob)
            image.symlink_to(blob)
        assert image.is_file()
        return str(image)

    return put


@pytest.mark.parametrize("is_archive", [False, True])
@pytest.mark.parametrize("config", REPOSITORIES.values(), ids=REPOSITORIES)
def test_rows_name_images_of_the_named_dataset_only(cached, config, is_archive):
    """Other datasets in the cache may be private, also once their archives are extracted."""
    named, other = cached("me/named", is_archive), cached("me/private", is_archive)
    assert bad_rows(other, as_struct=False) == []  # positive control
    user_settings.restrict_images(OmegaConf.create({"dataset": config}), ["seed"])
    assert bad_rows(named, as_struct=False) == []
    assert [(row.row, row.column) for row in bad_rows(other, as_struct=False)] == [(0, "image")]
