"""Images: digits, paths, networks whose files have other names than their weights."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image

from conftest import predictions, write_rows
from hydratune.data import Digits
from hydratune.data.cache import content_hash
from hydratune.tasks.image_classification import ImageClassification
from hydratune.utils.errors import ConfigError
from tiny_models import TINY_VIT


def test_digits():
    """1,297/200/300 images in ten classes, the same everywhere; no image is in two splits."""
    splits = Digits().load(ImageClassification())
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 1297, "validation": 200, "test": 300}
    images = [{image.tobytes() for image in rows["image"]} for rows in splits.values()]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
    assert splits["test"][0]["image"].size == (8, 8)
    labels = Dataset.from_dict({"label": splits["test"]["label"]})
    assert content_hash(labels).startswith("a63f09948a0415cc")


def colours(folder):
    """Overrides of three files that name twelve images, red or blue."""
    rows = []
    for i in range(12):
        Image.new("RGB", (8, 8), ["red", "blue"][i % 2]).save(folder / f"{i}.png")
        rows.append({"image": str(folder / f"{i}.png"), "label": ["red", "blue"][i % 2]})
    for split in ("train", "validation", "test"):
        write_rows(folder / f"{split}.jsonl", rows)
    return ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))]


def test_learns_from_paths(train, own_directory):
    """Files that name images are enough; a saved model reads images with the processor beside it."""
    learn = ["task=image_classification", "trainer.args.max_steps=30", "trainer.args.learning_rate=0.02"]
    result = train(*colours(own_directory), *TINY_VIT, *learn)
    assert result.metrics["test_accuracy"] == 1
    first = predictions(result)[0]
    assert (first["label"], first["prediction"]) == ("red", "red")
    assert 0.5 < first["probability"] <= 1
    from transformers import pipeline

    said = pipeline("image-classification", model=str(result.directory / "model"))(str(own_directory / "1.png"))
    assert said[0]["label"] == "blue"


def test_the_best_weights_come_back(train, own_directory):
    """A vision transformer's files have other names than its weights: all of them are the best checkpoint's.

    Upstream's Trainer reads the names as they are, and keeps the last weights under the best one's score.
    """
    overrides = colours(own_directory)
    swapped = [json.loads(line) for line in (own_directory / "validation.jsonl").read_text().splitlines()]
    other = {"red": "blue", "blue": "red"}
    write_rows(own_directory / "validation.jsonl", [{**row, "label": other[row["label"]]} for row in swapped])
    more = [
        "task=image_classification",
        "objective=eval_loss",
        "trainer.args.num_train_epochs=5",
        "trainer.args.learning_rate=0.02",
    ]
    result = train(
        *overrides, *TINY_VIT, *more, "trainer.args.save_total_limit=2"
    )  # the more it learns, the worse it gets
    (best, last) = sorted(result.directory.glob("checkpoints/*"), key=lambda path: int(path.name.partition("-")[2]))
    state = json.loads((last / "trainer_state.json").read_text())
    assert state["best_global_step"] == int(best.name.partition("-")[2])
    from safetensors.torch import load_file

    kept, saved = load_file(result.directory / "model" / "model.safetensors"), load_file(best / "model.safetensors")
    assert kept.keys() == saved.keys()
    assert all(torch.equal(kept[name], saved[name]) for name in kept)
    assert result.metrics["step"] == int(best.name.partition("-")[2])


def test_values_that_are_no_images():
    """A column of numbers is told."""
    rows = Dataset.from_dict({"image": [1, 2], "label": ["a", "b"]})
    with pytest.raises(ConfigError, match="int64") as caught:
        ImageClassification().prepare(DatasetDict(train=rows), None, None, None)
    assert [problem.key for problem in caught.value.problems] == ["dataset.columns.image"]
