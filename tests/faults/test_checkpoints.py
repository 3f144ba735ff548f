"""A checkpoint is whole or invisible, and a run goes on from the newest whole one of its own."""

import errno
import json
import pickle
import shutil
import zipfile
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, DatasetDict
from omegaconf import OmegaConf

from hydratune.cli.run_summary import oom_hint
from hydratune.tasks.base import EncodedData
from hydratune.training.resume import checkpoint_fingerprint
from hydratune.training.trainer import checkpoint_files
from hydratune.training.trainer.checkpoint_files import (
    MANIFEST,
    UNFINISHED,
    DiskFullError,
    commit,
    find_damage,
    latest_valid,
)
from hydratune.utils.errors import ConfigError
from stored_checkpoints import manifest, state_text

MINE = {"network": "a", "training set": "b"}


def checkpoint(folder, number, lineage=MINE):
    """A sealed folder of two files."""
    written = folder / UNFINISHED / f"checkpoint-{number}"
    written.mkdir(parents=True)
    (written / "model.safetensors").write_bytes(b"weights" * 100)
    (written / "trainer_state.json").write_text(state_text(number))
    commit(written, folder / written.name, manifest(lineage))
    return folder / written.name


def flip(path):
    """Turns one bit of a file over."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "model.safetensors is corrupt: its SHA-256 differs from the one in manifest.json": lambda c: flip(
        c / "model.safetensors"
    ),
    "trainer_state.json is missing": lambda c: (c / "trainer_state.json").unlink(),
    "trainer_state.json has 350 of 700 bytes": lambda c: (c / "trainer_state.json").write_bytes(b"moments" * 50),
    "manifest.json does not list training_args.bin": lambda c: (c / "training_args.bin").write_bytes(b"a pickle"),
    "trainer_state.json is a symbolic link": lambda c: (
        (c / "trainer_state.json").unlink(),
        (c / "trainer_state.json").symlink_to("/dev/null"),
    ),
    "it has no readable manifest.json, so it is incomplete or another program wrote it": lambda c: (
        c / MANIFEST
    ).write_text('{"files": '),
}


@pytest.mark.parametrize("words", DAMAGE)
def test_damage_is_told(tmp_path, words):
    """Whatever was done to the newest checkpoint, the one before is taken, and the reason is told."""
    sound, damaged = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert latest_valid(tmp_path, MINE) == (damaged, [])
    DAMAGE[words](damaged)
    assert latest_valid(tmp_path, MINE) == (sound, [f"checkpoint-10: {words}"])


def test_finish_replaces_a_checkpoint_before_it_removes_files(tmp_path, monkeypatch):
    """A process that is killed while it removes the earlier one of the same step leaves the new one."""
    checkpoint(tmp_path, 10)

    def killed(folder, **_):
        (folder / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint(tmp_path, 10)
    assert latest_valid(tmp_path, MINE) == (tmp_path / "checkpoint-10", [])


MANIFESTS = [
    "3",
    "[]",
    '{"lineage": {}}',
    '{"files": [], "lineage": {}}',
    '{"files": {"a": 3}, "lineage": {}}',
    '{"files": {"a": [1, 2, 3]}, "lineage": {}}',
    '{"files": {"a": ["x", "y"]}, "lineage": {}}',
    '{"files": {"a": [1e999, "y"]}, "lineage": {}}',
    '{"files": {"model.safetensors": [{}, null], "trainer_state.json": [1, "x"]}, "lineage": {}}',
    '{"files": {}}',
    '{"files": {}, "lineage": []}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", MANIFESTS, ids=range(len(MANIFESTS)))
def test_checkpoint_with_a_malformed_manifest_is_skipped(tmp_path, text):
    """The run resumes from the one before, also if someone else wrote the newest."""
    valid, newest = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    (newest / MANIFEST).write_text(text)
    latest, skipped = latest_valid(tmp_path, MINE)
    assert latest == valid
    assert [message.partition(":")[0] for message in skipped] == ["checkpoint-2"]


PICKLES = [b"", b".", b"\x80\x02h\x05.", b"\x80\x02J\x00.", b"\x80\x02X\x01\x00\x00\x00\xff.", b"\x80\x02)R."]


@pytest.mark.parametrize("content", PICKLES)
def test_checkpoint_with_a_malformed_pickle_is_skipped(tmp_path, content):
    """Its bytes make torch's reader raise errors of many kinds; the manifest agrees with them."""
    valid = checkpoint(tmp_path, 1)
    written = tmp_path / UNFINISHED / "checkpoint-2"
    written.mkdir(parents=True)
    torch.save({"state": torch.ones(3)}, written / "good.pt")
    with zipfile.ZipFile(written / "good.pt") as good, zipfile.ZipFile(written / "optimizer.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, content if name.endswith("data.pkl") else good.read(name))
    commit(written, tmp_path / "checkpoint-2", manifest(MINE))
    latest, skipped = latest_valid(tmp_path, MINE)
    assert latest == valid
    assert len(skipped) == 1
    assert "optimizer.pt" in skipped[0]


@pytest.mark.parametrize("name", ["optimizer_0/.metadata", "global_step9/mp_rank_00_model_states.pt"])
def test_what_is_read_as_a_pickle(tmp_path, name):
    """Files that torch or deepspeed would unpickle without limits make a checkpoint unfit, whatever the manifest says."""
    sound, evil = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    (evil / name).parent.mkdir()
    (evil / name).write_bytes(b"a pickle")
    (evil / MANIFEST).unlink()
    commit(evil.rename(tmp_path / "again"), evil, manifest(MINE))
    assert latest_valid(tmp_path, MINE) == (
        sound,
        [f"checkpoint-10: {name} would be loaded as a pickle, which can run code"],
    )


def test_what_is_unfinished_is_invisible(tmp_path):
    """A folder that was not given its name is no checkpoint, and is gone with the next save."""
    (tmp_path / UNFINISHED / "checkpoint-5").mkdir(parents=True)
    assert latest_valid(tmp_path, MINE) == (None, [])
    checkpoint_files.make_room(tmp_path, 0)
    assert not (tmp_path / UNFINISHED).exists()


def test_another_lineage(tmp_path):
    """One of another network or training set is passed over; where there are only such, nothing begins anew."""
    mine = checkpoint(tmp_path, 1)
    checkpoint(tmp_path, 2, {"network": "other", "training set": "b"})
    assert latest_valid(tmp_path, MINE) == (mine, ["checkpoint-2 was trained with another model"])
    shutil.rmtree(mine)
    with pytest.raises(ConfigError) as caught:
        latest_valid(tmp_path, MINE)
    (problem,) = caught.value.problems
    assert problem.key == str(tmp_path)
    assert "checkpoint-2 was trained with another model" in problem.message


STEPS = ["trainer.args.max_steps=4", "trainer.args.save_strategy=steps", "trainer.args.eval_strategy=steps",
         "trainer.args.save_steps=2", "trainer.args.eval_steps=2", "trainer.args.save_total_limit=2"]  # fmt: skip


def test_what_a_checkpoint_holds(train, toy):
    """A run's checkpoints are sealed, hold no pickled arguments, and leave nothing beside them."""
    folder = train(*toy, *STEPS).directory / "checkpoints"
    assert {path.name for path in folder.iterdir()} <= {"checkpoint-2", "checkpoint-4"}
    for one in folder.iterdir():
        assert find_damage(one) is None
        assert {path.name for path in one.glob("*.bin")} == set()
        assert json.loads((one / MANIFEST).read_text())["lineage"].keys() == {
            *("network", "seed", "training set", "encoding of the training set"),
            *("list of labels", "tokenizer or image processor", "parameter grouping or averaging"),
        }


def test_checkpoint_of_a_whole_model_names_no_base_model(train, toy, own_directory):
    """A run of someone else would download it, or read it from another directory."""
    last = train(*toy, *STEPS).directory / "checkpoints" / "checkpoint-4"
    (own_directory / "run" / "metrics.json").unlink()
    fields = {"peft_type": "LORA", "base_model_name_or_path": "me/evil", "target_modules": ["query"]}
    (last / "adapter_config.json").write_text(json.dumps(fields))
    stored = checkpoint_files.read(last)
    (last / MANIFEST).unlink()
    commit(last.rename(own_directory / "again"), last, stored)
    with pytest.raises(ConfigError) as caught:
        train(*toy, *STEPS, "trainer.args.max_steps=6", directory="run")
    assert [problem.key for problem in caught.value.problems] == ["checkpoint"]


@pytest.mark.parametrize(
    ("setting", "is_same"),
    [({}, True), ({"swa_start": 0.5}, True), ({"layer_decay": 0.9}, False), ({"averaging": "ema"}, False)],
)
def test_checkpoint_fingerprint_contains_settings_of_saved_states(setting, is_same):
    """The optimizer state of other parameter groups does not fit, and an average cannot begin in the middle."""
    network, rows = torch.nn.Linear(1, 1), Dataset.from_dict({"x": [1]})
    encoded = EncodedData(DatasetDict(train=rows), {})
    before, after = (
        checkpoint_fingerprint(OmegaConf.create({"seed": 1, "trainer": trainer}), rows, encoded, None, network)
        for trainer in ({}, setting)
    )
    assert (before == after) == is_same


def test_a_disk_that_is_too_small(train, toy, monkeypatch):
    """It is told before a byte is written; what was saved before is kept."""
    usage = shutil.disk_usage
    asked = []

    def shrinking(path):
        asked.append(path)
        return usage(path) if len(asked) == 1 else SimpleNamespace(free=1000)

    monkeypatch.setattr(shutil, "disk_usage", shrinking)
    with pytest.raises(DiskFullError, match="a checkpoint needs") as caught:
        train(*toy, *STEPS)
    assert "full" in oom_hint(caught.value, checkpoint_files.Path("run"))
    (only,) = (checkpoint_files.Path("run") / "checkpoints").iterdir()
    assert only.name == "checkpoint-2"
    assert find_damage(only) is None


def test_a_disk_that_fills_up(train, toy, monkeypatch):
    """One that others fill while a checkpoint is written: the part is removed, and what was saved before is kept."""
    save, saved = torch.save, []

    def failing(value, path, *args):
        saved.append(path)
        if len(saved) > 5:
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))  # noqa: ARG005
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, path, *args)

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(DiskFullError, match="earlier checkpoints remain"):
        train(*toy, *STEPS)
    (only,) = (checkpoint_files.Path("run") / "checkpoints").iterdir()
    assert only.name == "checkpoint-2"
    assert find_damage(only) is None


def test_best_weights_that_are_damaged(train, toy, own_directory, caplog):
    """A run that goes on without its best weights says so, and takes the best of what is to come."""
    kept = [*STEPS, "trainer.args.save_total_limit=null", "trainer.args.learning_rate=0"]  # the first one is the best
    train(*toy, *kept)
    (own_directory / "run" / "metrics.json").unlink()
    flip(own_directory / "run" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    again = train(*toy, *kept, "trainer.args.max_steps=6", directory="run")
    assert "skipped the best checkpoint so far (step 2): model.safetensors is corrupt" in caplog.text
    assert again.metrics["step"] == 6


class Evil:
    """Pickled, it makes a file when it is loaded."""

    def __reduce__(self):
        return (open, ("canary", "w"))


def plain_pickle(path):
    """As Python writes it."""
    path.write_bytes(pickle.dumps(Evil(), protocol=2))


def torch_pickle(path):
    """As torch writes it, beside tensors."""
    torch.save({"state": torch.ones(3), "more": Evil()}, path)


LORA = ["adapter=lora", "adapter.config.target_modules=[query]"]


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.bin"])
@pytest.mark.parametrize("write", [plain_pickle, torch_pickle])
def test_no_code_from_a_checkpoint(train, toy, own_directory, caplog, name, write):
    """Even where the manifest was made to agree, a pickle that would run code is left out, and the one before taken."""
    kept = [*STEPS, "trainer.args.save_total_limit=null", *(LORA if "adapter" in name else [])]
    train(*toy, *kept)
    (own_directory / "run" / "metrics.json").unlink()
    last = own_directory / "run" / "checkpoints" / "checkpoint-4"
    write(last / name)
    stored = checkpoint_files.read(last)
    (last / "adapter_model.safetensors").unlink(missing_ok=True)
    (last / MANIFEST).unlink()
    commit(last.rename(own_directory / "again"), last, stored)
    train(*toy, *kept, "trainer.args.max_steps=6", directory="run")
    assert not (own_directory / "canary").exists()
    words = f"{name} contains more than tensors and plain values, so loading it could run code"
    assert f"skipped checkpoint-4: {words}" in caplog.text
