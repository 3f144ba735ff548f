"""Images: folders by class, and the pixels that a model gets of each mode."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from conftest import predictions
from hydratune.data import LocalFiles
from hydratune.tasks.image_classification import ImageClassification
from hydratune.utils.errors import ConfigError
from tiny_models import TINY_VIT

TASK = ImageClassification()


class Pixels:
    """A processor that returns the values of the images as they are."""

    def __init__(self, channels):
        self.image_mean = [0.5] * channels

    def __call__(self, images, return_tensors):
        import torch

        assert return_tensors == "pt"
        return {"pixel_values": torch.stack([torch.tensor(np.asarray(image)) for image in images])}


def pixels(image, name="a.png", channels=1):
    """The values of one image after it was saved, checked, and collated."""
    image.save(name)
    rows = Dataset.from_list([{"image": name, "label": label} for label in "ab"])
    splits = DatasetDict(train=rows)
    assert [*TASK.bad_rows(splits, ["a", "b"])] == []
    data = TASK.prepare(splits, None, None, ["a", "b"]).splits["train"]
    return TASK.collator(Pixels(channels))([data[0]])["pixel_values"][0].tolist()


def gray16(values):
    """A gray image of 16 bits."""
    return Image.fromarray(np.array([values], dtype="uint16"))


def palette():
    """A red and a blue pixel by a palette."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    return image


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_gray_of_16_bits_is_scaled(name):
    """The whole range is scaled, and not clipped to white."""
    assert pixels(gray16([0, 257, 1000, 32768, 65535]), name) == [[0, 1, 4, 128, 255]]


@pytest.mark.parametrize(
    ("image", "channels", "expected"),
    [
        (Image.new("1", (1, 1), 1), 1, [[255]]),
        (Image.new("L", (1, 1), 7), 3, [[[7, 7, 7]]]),
        (Image.new("LA", (1, 1), (9, 255)), 1, [[9]]),
        (Image.new("LA", (1, 1), (0, 0)), 1, [[255]]),
        (Image.new("RGBA", (1, 1), (10, 20, 30, 255)), 3, [[[10, 20, 30]]]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), 3, [[[255, 255, 255]]]),
        (Image.new("RGB", (1, 1), (255, 255, 255)), 1, [[255]]),
        (palette(), 3, [[[255, 0, 0], [0, 0, 255]]]),
        (gray16([65535]), 3, [[[255, 255, 255]]]),
    ],
    ids=["1", "L", "LA", "LA clear", "RGBA", "RGBA clear", "RGB", "P", "I;16"],
)
def test_modes(image, channels, expected):
    """Each mode has 8 bits a channel in the end; transparent pixels are white."""
    assert pixels(image, channels=channels) == expected


def test_cmyk():
    """Print colors become those of a screen."""
    image = pixels(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.tif", 3)
    assert image[0][0] == [255, 0, 0]


def test_exif_orientation():
    """An image is as its camera was held."""
    image = Image.new("L", (2, 1))
    image.putdata([0, 255])
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    image.save("turned.png", exif=exif)
    rows = DatasetDict(train=Dataset.from_list([{"image": "turned.png", "label": label} for label in "ab"]))
    data = TASK.prepare(rows, None, None, ["a", "b"]).splits["train"]
    assert TASK.collator(Pixels(1))([data[0]])["pixel_values"][0].tolist() == [[0], [255]]


@pytest.mark.parametrize(("dtype", "mode"), [("float32", "F"), ("int32", "I")])
def test_modes_without_a_range_are_refused(dtype, mode):
    """Nobody knows which value is white."""
    Image.fromarray(np.array([[1, 2]], dtype=dtype)).save("a.tif")
    rows = DatasetDict(train=Dataset.from_list([{"image": "a.tif", "label": label} for label in "ab"]))
    bad = [*TASK.bad_rows(rows, ["a", "b"])]
    assert [(one.row, one.column) for one in bad] == [(0, "image"), (1, "image")]
    assert f"mode {mode}" in bad[0].text


# --- folders ---------------------------------------------------------------------------------------------


def folders(root, classes, count=3, size=8):
    """Images of one color for each class."""
    for name, color in classes.items():
        for i in range(count):
            path = Path(root) / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (size, size), color).save(path)
    return root


def test_a_folder_of_images_by_class():
    """Labels are the names of the folders; hidden files and notes beside the images are no rows."""
    folders("data", {"dog": "red", "cat": "blue"})
    Path("data/README.txt").write_text("notes")
    Path("data/cat/.DS_Store").write_text("x")
    Path("data/cat/notes.txt").write_text("x")
    (Path("data") / "dog" / "more").mkdir()
    Image.new("L", (8, 8)).save("data/dog/more/3.PNG")
    source = LocalFiles(files={"train": "data", "validation": "data"})
    assert [*source.check(), *source.check_columns(TASK.columns)] == []
    splits = source.load(TASK)
    assert source.label_names == ["cat", "dog"]
    assert splits["train"]["label"] == ["cat"] * 3 + ["dog"] * 4
    assert splits["train"]["image"][:2] == ["data/cat/0.png", "data/cat/1.png"]


def test_the_same_label_has_the_same_id_in_every_split():
    """A class that validation lacks does not renumber the others."""
    folders("train", {"ant": "red", "bee": "blue", "cat": "green"})
    folders("test", {"bee": "blue", "cat": "green"})
    source = LocalFiles(files={"train": "train", "validation": "test"})
    splits = source.load(TASK)
    data = TASK.prepare(splits, None, None, source.label_names)
    assert data.splits["validation"]["labels"] == [1, 1, 1, 2, 2, 2]


def test_a_folder_that_changes_is_read_again():
    """Images that were added are rows of the next run, and those of another folder with the same names are its own."""
    files = {split: str(folders("one", {"a": "red", "b": "blue"})) for split in ("train", "validation")}
    assert len(LocalFiles(files=files).load(TASK)["train"]) == 6
    folders("one", {"b": "blue"}, count=4)
    assert len(LocalFiles(files=files).load(TASK)["train"]) == 7
    folders("two", {"a": "red", "b": "blue"})
    rows = LocalFiles(files={"train": "two", "validation": "one"}).load(TASK)["train"]
    assert {path.split("/")[0] for path in rows["image"]} == {"two"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: [folders(f"data/{split}", {"a": "red", "b": "blue"}) for split in ("train", "test")],
        lambda: [folders("data", {"a": "red", ".": "blue"})],
        lambda: Path("data/a").mkdir(parents=True),
    ],
    ids=["splits", "images beside classes", "no images"],
)
def test_folders_that_are_refused(make):
    """Splits are no classes, an image without a class has no label, and there are images."""
    make()
    assert [problem.key for problem in LocalFiles(files={"train": "data"}).check()] == ["files.train"]


def test_a_table_beside_images_is_the_data():
    """A file that lists images is read, as before."""
    folders("data", {"a": "red", "b": "blue"})
    Path("data/rows.csv").write_text("image,label\ndata/a/0.png,x\ndata/b/0.png,y\n")
    splits = LocalFiles(files={"train": "data", "validation": "data"}).load(TASK)
    assert splits["train"]["label"] == ["x", "y"]


def test_a_table_among_images_is_an_error():
    """Neither the images nor the table are taken, and there is one error for all files."""
    folders("data", {".": "red"}, count=3)
    Path("data/metadata.csv").write_text("file_name,label\n0.png,x\n1.png,y\n")
    (problem,) = LocalFiles(files={"train": "data"}).check()
    assert problem.key == "files.train"
    assert "data/metadata.csv" in problem.hint


def test_prepare_takes_renamed_labels_of_image_paths():
    """Other data that is evaluated has labels that were mapped to those of the model, in rows of a file."""
    folders("data", {"red": "red", "blue": "blue"}, count=1)
    Path("a.csv").write_text("image,label\ndata/red/0.png,1\ndata/blue/0.png,0\n")
    task, source = ImageClassification(), LocalFiles(files={"train": "a.csv"})
    split, raw = source.read_one(task.columns)
    rows = task.align_labels(source.under_task_names(raw.splits, task.columns)[split], None, ["0", "1"])
    data = task.prepare(DatasetDict(test=rows), None, None, ["0", "1"])
    assert data.splits["test"]["labels"][:] == [1, 0]
    assert data.splits["test"].column_names == ["image", "labels"]


def test_predictions_of_embedded_images_have_their_rows(train):
    """Images without a path are known by their position in the file."""
    from datasets import Dataset, Image

    folders("data", {"red": "red", "blue": "blue"}, count=6)
    files = [str(path) for name in ("red", "blue") for path in sorted(Path("data", name).iterdir())]
    rows = [
        {"image": {"bytes": Path(file).read_bytes(), "path": None}, "label": Path(file).parent.name} for file in files
    ]
    Dataset.from_list(rows).cast_column("image", Image()).to_parquet("a.parquet")
    learn = ["task=image_classification", "trainer.args.max_steps=1", "dataset.test_size=0.5"]
    said = predictions(train("dataset=local", "dataset.files.train=a.parquet", *TINY_VIT, *learn))
    assert len(said) == 6
    assert all(rows[row["row"]]["label"] == row["label"] for row in said)


def test_a_run_on_folders(train, own_directory):
    """The command line needs only the folders, and predictions are made for a folder without classes."""
    for split in ("train", "validation", "test"):
        folders(split, {"red": "red", "blue": "blue"}, count=6)
    files = [f"dataset.files.{split}={split}" for split in ("train", "validation", "test")]
    learn = ["task=image_classification", "trainer.args.max_steps=30", "trainer.args.learning_rate=0.02"]
    result = train("dataset=local", *files, *TINY_VIT, *learn)
    assert result.metrics["test_accuracy"] == 1
    assert [row["label"] for row in predictions(result)] == ["blue"] * 6 + ["red"] * 6
    assert [row["image"] for row in predictions(result)] == [
        f"test/{name}/{i}.png" for name in ("blue", "red") for i in range(6)
    ]
    from hydratune.evaluation.predict import PredictRequest, predict

    folders("new", {".": "blue"}, count=2)
    out = own_directory / "out.jsonl"
    predict(PredictRequest(str(result.directory), Path("new"), out=out))
    assert out.read_text().count('"prediction": "blue"') == 2
    with pytest.raises(ConfigError):
        predict(PredictRequest(str(result.directory), Path("nothing")))
