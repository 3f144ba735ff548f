"""Checkpoints of a Trainer other than ours, from someone else: none of them reads a file elsewhere, or a pickle."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from hydratune.training.resume import last_checkpoint
from hydratune.training.trainer.checkpoint_files import MANIFEST, UNFINISHED, commit, find_damage
from stored_checkpoints import manifest, state_text

OUTSIDE = "../../private/model.safetensors"
REFERENCES = {
    "shard": lambda c: (c / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": OUTSIDE}})),
    "absolute path": lambda c: (c / "config.json").write_text(json.dumps({"vocab_file": "/home/me/x"})),
    "link": lambda c: (c / "model.safetensors").symlink_to(c.parents[1] / "private" / "model.safetensors"),
    "folder": lambda c: (c / "adapter").symlink_to(c.parents[1] / "private"),
    "pickle": lambda c: (c / "mp_rank_00_model_states.pt").touch(),
    "pickles": lambda c: [(c / "pytorch_model_fsdp_0").mkdir(), (c / "pytorch_model_fsdp_0" / ".metadata").touch()],
    "pipe": lambda c: os.mkfifo(c / "x.json"),
}


@pytest.fixture
def folder(own_directory):
    """Return a folder with two checkpoints, and a private model next to it."""
    (own_directory / "private").mkdir()
    (own_directory / "private" / "model.safetensors").touch()
    for number in (1, 2):
        (own_directory / "checkpoints" / f"checkpoint-{number}").mkdir(parents=True)
        write_state(own_directory / "checkpoints", number)
    return own_directory / "checkpoints"


def write_state(folder, number, **changes):
    """Write the state of a checkpoint."""
    (folder / f"checkpoint-{number}" / "trainer_state.json").write_text(json.dumps({"log_history": [], **changes}))


def last(folder):
    """Return the name of the checkpoint that another Trainer resumes from, and its state."""
    checkpoint = last_checkpoint(SimpleNamespace(args=SimpleNamespace(output_dir=str(folder))), {})
    name = checkpoint.rpartition("/")[2]
    return name, json.loads((folder / name / "trainer_state.json").read_text())


@pytest.mark.parametrize("way", REFERENCES)
def test_checkpoint_with_a_reference_is_skipped(folder, way):
    """It is read by transformers, in which nothing checks it."""
    assert last(folder)[0] == "checkpoint-2"  # positive control
    REFERENCES[way](folder / "checkpoint-2")
    assert last(folder)[0] == "checkpoint-1"


@pytest.mark.parametrize(
    "best", ["{0}/private", "private", "checkpoints/checkpoint-9", "checkpoint-2/../../private", 1]
)
def test_best_checkpoint_elsewhere_is_not_read(folder, best):
    """Trainer reads its weights at the end of the run."""
    path = best.format(folder.parent) if isinstance(best, str) else best
    write_state(folder, 2, best_model_checkpoint=path, best_metric=2.0, best_global_step=9)
    name, state = last(folder)
    assert (name, state["best_model_checkpoint"], state["best_metric"]) == ("checkpoint-2", None, None)


@pytest.mark.parametrize("way", REFERENCES)
def test_best_checkpoint_with_a_reference_is_not_read(folder, way):
    """Also if it is one of the run's checkpoints."""
    REFERENCES[way](folder / "checkpoint-1")
    write_state(folder, 2, best_model_checkpoint=str(folder / "checkpoint-1"), best_metric=2.0)
    assert last(folder)[1]["best_model_checkpoint"] is None


def test_best_checkpoint_of_a_moved_run_is_found(folder):
    """Positive control: its stored path is that of another directory."""
    write_state(folder, 2, best_model_checkpoint="/nonexistent/run/checkpoints/checkpoint-1", best_metric=2.0)
    state = last(folder)[1]
    assert state["best_model_checkpoint"] == str(folder / "checkpoint-1")
    assert (state["best_metric"], state["log_history"]) == (2.0, [])


def test_pipe_in_our_own_checkpoint_is_damage(folder):
    """Reading it would not end; the manifest can list it."""
    shutil.rmtree(folder / "checkpoint-2")
    written = folder / UNFINISHED / "checkpoint-2"
    written.mkdir(parents=True)
    (written / "trainer_state.json").write_text(state_text(2))
    commit(written, folder / "checkpoint-2", manifest({}))
    assert find_damage(folder / "checkpoint-2") is None
    content = json.loads((folder / "checkpoint-2" / MANIFEST).read_text())
    content["files"]["pipe.json"] = [0, "0"]
    (folder / "checkpoint-2" / MANIFEST).write_text(json.dumps(content))
    os.mkfifo(folder / "checkpoint-2" / "pipe.json")
    assert find_damage(folder / "checkpoint-2") is not None
