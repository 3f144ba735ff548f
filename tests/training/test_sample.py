"""The table of predictions that MLflow compares across runs."""

import json

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow

from hydratune.training.sample import ROWS, SAMPLE, write_sample


def table(folder):
    """The table as MLflow reads it."""
    return json.loads((folder / SAMPLE).read_text())


def test_sample_joins_runs_by_row(tmp_path):
    """MLflow joins by the first column and compares the second: the row's number, and the prediction."""
    decoded = [{"label": "a", "text": str(i), "prediction": "b"} for i in range(ROWS + 1)]
    files = list(write_sample(tmp_path, decoded, Dataset.from_dict({"input_ids": [[1]] * len(decoded)})))
    assert files == [(tmp_path / SAMPLE, "")]
    assert table(tmp_path)["columns"] == ["row", "prediction", "label", "text"]
    assert table(tmp_path)["data"][1] == [1, "b", "a", "1"]
    assert len(table(tmp_path)["data"]) == ROWS


def test_sample_has_thumbnails_of_images(tmp_path):
    """Each row shows its own image, in the form of MLflow's tables."""
    images = [Pillow.new("RGB", (200, 100), color) for color in ("red", "blue")]
    features = Features(image=Image(), labels=Value("int64"))
    rows = Dataset.from_dict({"image": images, "labels": [0, 1]}, features=features)
    decoded = [{"label": color, "prediction": "red"} for color in ("red", "blue")]
    files = dict(write_sample(tmp_path, decoded, rows))
    cells = [row[table(tmp_path)["columns"].index("image")] for row in table(tmp_path)["data"]]
    assert [cell["type"] for cell in cells] == ["image", "image"]
    with Pillow.open(tmp_path / cells[1]["compressed_filepath"]) as thumbnail:
        red, _, blue = thumbnail.convert("RGB").getpixel((5, 5))
        assert (thumbnail.size, blue > 200, red < 50) == ((64, 32), True, True)
    assert {folder for path, folder in files.items() if path.suffix == ".webp"} == {"table_images/predictions_sample"}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_thumbnail_of_a_large_jpeg_is_that_of_its_pixels(tmp_path, mode):
    """A file that is decoded at a small size looks the same, also turned as its camera says."""
    image = Pillow.new("RGB", (1600, 800), "white")
    image.paste("black", (0, 0, 800, 800))
    exif = Pillow.Exif()
    exif[274] = 3  # upside down
    image.convert(mode).save(tmp_path / "image.jpg", exif=exif)
    rows = Dataset.from_dict({"image": [str(tmp_path / "image.jpg")]}, features=Features(image=Image()))
    files = dict(write_sample(tmp_path, [{"prediction": "a"}], rows))
    (path,) = [path for path in files if path.suffix == ".webp"]
    with Pillow.open(path) as thumbnail:
        left, right = (thumbnail.convert("L").getpixel((x, 16)) for x in (5, 58))
        assert (thumbnail.size, left > 200, right < 50) == ((64, 32), True, True)
