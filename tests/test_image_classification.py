"""Image classification: pictures reach the network, and bad ones are found before training."""

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Image
from PIL import Image as Pillow
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from conftest import write_rows
from hydratune.data.digits import Digits
from hydratune.errors import ConfigError
from hydratune.tasks.image_classification import ImageClassification


def picture(shade, mode="L"):
    """8 x 8 pixels of one shade."""
    return Pillow.new("L", (8, 8), shade).convert(mode)


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory):
    """Overrides that name a checkpoint of one layer for colour images of 8 x 8."""
    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    return ["model=pretrained", f"model.pretrained_model_name_or_path={folder}", "hardware=cpu"]


@pytest.fixture
def shades(own_directory):
    """Overrides that name files of paths to dark and light pictures in three modes."""
    rows = []
    for number, mode in enumerate(["L", "RGB", "RGBA"] * 4):
        for label, shade in (("dark", 20 + number), ("light", 200 + number)):
            path = own_directory / f"{label}{number}.png"
            picture(shade, mode).save(path)
            rows.append({"image": str(path), "label": label})
    write_rows(own_directory / "a.jsonl", rows)
    names = [f"dataset.files.{split}=a.jsonl" for split in ("train", "validation", "test")]
    return ["dataset=local", "task=image_classification", *names]


def test_learns_from_paths(shades, tiny_vit, train):
    """A run on files of paths, grey and coloured, learns; predictions are names."""
    result = train(*shades, *tiny_vit, "trainer.args.learning_rate=0.02", "trainer.args.num_train_epochs=10")
    assert result.metrics["test_accuracy"] == 1.0
    first = (result.directory / "predictions.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"label": "dark", "prediction": "dark"}


def test_the_model_can_be_used_again(shades, tiny_vit, train):
    """What a run leaves is a checkpoint with its image processor, which another run starts from."""
    result = train(*shades, *tiny_vit, "trainer.args.max_steps=2")
    again = ["model=pretrained", f"model.pretrained_model_name_or_path={result.directory / 'model'}", "hardware=cpu"]
    assert train(*shades, *again, "trainer.args.max_steps=2", directory="again").metrics["test_loss"] > 0


def test_a_network_of_one_channel():
    """A processor of one channel gets grey images, one of three gets coloured ones, whatever the file."""
    rows = [{"image": picture(9, mode), "labels": 0} for mode in ("L", "RGB", "RGBA", "P", "1")]
    grey = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    colour = ViTImageProcessorPil(size={"height": 8, "width": 8})
    shapes = [tuple(ImageClassification().collator(p)(rows)["pixel_values"].shape) for p in (grey, colour)]
    assert shapes == [(5, 1, 8, 8), (5, 3, 8, 8)]


def bad_images(images):
    """The numbers of the bad rows."""
    rows = DatasetDict(train=Dataset.from_dict({"image": images, "label": ["a", "b", "a"][: len(images)]}))
    return [(one.row, one.column) for one in ImageClassification().bad_rows(rows, None)]


def test_paths_that_hold_no_image(own_directory):
    """A path of no file, or of a file that is no image, makes its row bad before training."""
    picture(1).save(own_directory / "a.png")
    (own_directory / "b.png").write_text("no image")
    assert bad_images(["a.png", "b.png", "c.png"]) == [(1, "image"), (2, "image")]


def test_a_column_of_numbers_is_no_image():
    """A column that cannot hold images is one mistake."""
    rows = DatasetDict(train=Dataset.from_dict({"image": [1, 2], "label": ["a", "b"]}))
    with pytest.raises(ConfigError, match=r"^dataset.columns.image: expected images"):
        list(ImageClassification().bad_rows(rows, None))


def test_unknown_labels_are_bad_rows():
    """A label that training has not seen is found before training."""
    train = Dataset.from_dict({"image": [picture(1), picture(2)], "label": ["a", "b"]}).cast_column("image", Image())
    test = Dataset.from_dict({"image": [picture(3)], "label": ["c"]}).cast_column("image", Image())
    (bad,) = ImageClassification().bad_rows(DatasetDict(train=train, test=test), None)
    assert (bad.split, bad.row, bad.column) == ("test", 0, "label")


def test_digits_are_the_same_everywhere():
    """1,297, 200 and 300 digits, every class in its share, no picture in two splits, the same ones each time."""
    splits, again = Digits().read().splits, Digits().read().splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1297, "validation": 200, "test": 300}
    assert all(np.bincount(rows["label"]).max() - np.bincount(rows["label"]).min() <= 8 for rows in splits.values())
    pixels = [{np.asarray(image).tobytes() for image in rows["image"]} for rows in splits.values()]
    assert sum(map(len, pixels)) == 1797 == len(set.union(*pixels))
    assert splits["test"]["label"] == again["test"]["label"]
    assert pixels[2] == {np.asarray(image).tobytes() for image in again["test"]["image"]}


def test_digits_use_all_shades():
    """Ink is 255 and paper 0."""
    image = np.asarray(Digits().read().splits["train"][0]["image"])
    assert (image.dtype, image.shape, image.min(), image.max()) == ("uint8", (8, 8), 0, 255)


def test_the_shipped_digits_reach_the_network(train):
    """Two steps of the shipped network on the shipped digits."""
    few = [f"dataset.limit.{split}=16" for split in ("train", "validation", "test")]
    result = train("experiment=digits", *few, "trainer.args.num_train_epochs=2", "hardware=cpu")
    assert 0 <= result.metrics["test_macro_f1"] <= 1


def test_the_recipe_names_every_method_of_a_task():
    """docs/adding_a_task.md tells of each field and method that a task may define."""
    from pathlib import Path

    from hydratune.tasks.base import Task

    recipe = (Path(__file__).parents[1] / "docs" / "adding_a_task.md").read_text()
    names = {name for name in (*vars(Task), *Task.__annotations__) if not name.startswith("_")}
    plain = {"metrics", "objective", "max_length", "objectives"}  # fields that every yaml has
    assert [name for name in sorted(names - plain) if f"`{name}`" not in recipe] == []
