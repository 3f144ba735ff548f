"""Files of a run, a checkpoint, or data that do not end, or that exhaust the reader: one error, and no traceback."""

import ast
import json
import os
import struct
import zlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from datasets import Dataset, DatasetDict
from torch import nn

import hydratune
from hydratune.data.local import LocalFiles
from hydratune.tasks.image_classification import ImageClassification
from hydratune.tracking.journal import Journal
from hydratune.training.model_card import checked_loading_code
from hydratune.training.trainer.averages import Average
from hydratune.utils.image_formats import FOLDERS
from hydratune.utils.json_text import parse_json

SOURCE = Path(hydratune.__file__).parent
# Modules whose `read_text` and `read_bytes` read the user's own files, shipped ones, or files that are checked before.
OWN = {
    "cli/configs.py",
    "cli/init.py",
    "cli/sweep_finish.py",
    "evaluation/compare/runs.py",
    "sweep/export.py",
    "training/launch.py",
}
NESTED = {"json": "[" * 100_000, "object": '{"a":' * 100_000}


def test_stored_files_are_read_by_one_function():
    """`read_regular` refuses pipes and devices."""
    files = set()
    for package in ("cli", "evaluation", "models", "sweep", "tracking", "training"):
        for path in (SOURCE / package).rglob("*.py"):
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            if names & {"read_text", "read_bytes"}:
                files.add(str(path.relative_to(SOURCE)))
    assert files == OWN


def test_pipes_of_a_run_are_not_read(tmp_path):
    """They would have no end."""
    (tmp_path / "model").mkdir()
    for name in ("model/README.md", "tracking.sent", "tracking.jsonl"):
        os.mkfifo(tmp_path / name)
    assert checked_loading_code(tmp_path) == []
    assert Journal(tmp_path).sent().end == 0


def png(width, height):
    """Return the header of an image."""
    parts = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"x"), b"IEND"]
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("is_restricted", [False, True])
@pytest.mark.parametrize("path", ["pipe.png", "a\0b.png", "bomb.png", "folder.png", "/dev/zero"])
def test_unusable_image_is_a_bad_row(own_directory, monkeypatch, path, is_restricted):
    """Nothing waits for it, and nothing decodes it, also if the run is from someone else."""
    monkeypatch.setenv(FOLDERS, json.dumps([str(own_directory)]) if is_restricted else "")
    os.mkfifo(own_directory / "pipe.png")
    (own_directory / "folder.png").mkdir()
    (own_directory / "bomb.png").write_bytes(png(60_000, 60_000))
    (own_directory / "small.png").write_bytes(png(8, 8))
    found = {}
    for name in (path, "small.png"):  # the second one is the positive control
        rows = Dataset.from_dict({"image": [name], "label": ["a"]})
        found[name] = [row.column for row in ImageClassification().bad_rows(DatasetDict(train=rows), ["a"])]
    assert found == {path: ["image"], "small.png": []}


@pytest.mark.parametrize("text", NESTED.values(), ids=NESTED)
def test_nested_json_is_invalid(own_directory, text):
    """Python's reader raises another kind of exception."""
    with pytest.raises(ValueError, match="nested"):
        parse_json(text)
    for name in ("train.jsonl", "train.json"):
        Path(own_directory / name).write_text(f"{text}\n")
        assert [*LocalFiles(files={"train": name}).check()] != []
    Path("train.jsonl").write_text(json.dumps({"text": "a", "label": "b"}) + "\n")  # positive control
    assert [*LocalFiles(files={"train": "train.jsonl"}).check()] == []


CHANGES = {
    "no count": lambda path, values: safetensors.torch.save_file(values, path),
    "text": lambda path, values: safetensors.torch.save_file(values, path, {"count": "x"}),
    "zero": lambda path, values: safetensors.torch.save_file(values, path, {"count": "0"}),
    "name": lambda path, values: safetensors.torch.save_file({**values, "x": torch.ones(1)}, path, {"count": "1"}),
    "missing": lambda path, values: safetensors.torch.save_file({"bias": values["bias"]}, path, {"count": "1"}),
    "shape": lambda path, values: safetensors.torch.save_file({**values, "bias": torch.ones(9)}, path, {"count": "1"}),
    "junk": lambda path, _: path.write_bytes(b"junk" * 9),
}


@pytest.mark.parametrize("change", CHANGES)
def test_average_of_another_form_is_an_error(tmp_path, change):
    """Resuming reports it as one error."""
    model, path = nn.Linear(2, 2), tmp_path / "average.safetensors"
    Average().updated(model).save(path)
    assert Average.load(path, model, torch.device("cpu")).count == 1  # positive control
    CHANGES[change](path, safetensors.torch.load_file(path))
    with pytest.raises(ValueError):  # noqa: PT011 (`restoring` adds the checkpoint to it)
        Average.load(path, model, torch.device("cpu"))
