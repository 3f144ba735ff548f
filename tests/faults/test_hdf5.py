"""HDF5 files: their links can name other files, and Keras models in them hold code. Nothing here reads them."""

import importlib
import shutil
import sys

import pytest

from hydratune.config.composition import without_hydra
from hydratune.config.instantiate import build
from hydratune.config.validate import check_config
from hydratune.data import HubDataset
from hydratune.utils.errors import ConfigError

READERS = ("h5py", "tables", "tensorflow", "keras", "flax")


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that exists once one of the packages that read HDF5 is imported."""
    path = tmp_path / "canary"
    for name in READERS:
        (tmp_path / "readers" / name).mkdir(parents=True)
        (tmp_path / "readers" / name / "__init__.py").write_text(
            f"import pathlib\npathlib.Path({str(path)!r}).touch()\n"
        )
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "readers")
    yield path
    for name in READERS:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", READERS)
def test_canary_detects_a_reader(canary, name):
    """The positive control."""
    importlib.import_module(name)
    assert canary.exists()


@pytest.mark.parametrize("use_safetensors", [True, False])
@pytest.mark.parametrize("name", ["tf_model.h5", "model.h5", "model.weights.h5", "model.keras", "flax_model.msgpack"])
def test_checkpoint_with_weights_in_hdf5_is_refused(compose, tiny_model, own_directory, canary, name, use_safetensors):
    """With and without `use_safetensors`."""
    folder = own_directory / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / name)
    options = [f"model.pretrained_model_name_or_path={folder}", f"model.use_safetensors={use_safetensors}"]
    model = build(compose("model=pretrained", *options).model)
    from transformers import AutoConfig

    with pytest.raises(ConfigError) as caught:
        model.load_network("AutoModelForSequenceClassification", AutoConfig.from_pretrained(folder), {})
    assert [problem.key for problem in caught.value.problems] == ["model.pretrained_model_name_or_path"]
    assert not canary.exists()


def test_hdf5_weights_beside_safetensors_are_not_read(compose, tiny_model, own_directory, canary):
    """Checkpoints of earlier years have both."""
    folder = own_directory / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    model = build(compose("model=pretrained", f"model.pretrained_model_name_or_path={folder}").model)
    from transformers import AutoConfig

    model.load_network("AutoModelForSequenceClassification", AutoConfig.from_pretrained(folder), {})
    assert not canary.exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("+model.from_tf=true", "model.from_tf"),
        ("+model.from_flax=true", "model.from_flax"),
        ("dataset.format=hdf5", "dataset.format"),
        ("+trainer.callbacks.x._target_=tensorflow.keras.models.load_model", "trainer.callbacks.x._target_"),
        ("+task.extra_metrics.x._target_=h5py.File", "task.extra_metrics.x._target_"),
    ],
)
def test_config_that_names_a_reader_is_refused(compose, toy_files, canary, override, key):
    """No key of a config selects another reader."""
    with pytest.raises(ConfigError) as caught:
        check_config(without_hydra(compose(*toy_files, "model=pretrained", override)))
    assert key in [problem.key for problem in caught.value.problems]
    assert not canary.exists()


@pytest.mark.parametrize("name", ["rows.h5", "rows.hdf5", "rows.h5.gz", "rows.nc", "rows.he5"])
def test_data_in_hdf5_is_refused(compose, own_directory, canary, name):
    """The error names the key of the file."""
    (own_directory / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    dataset = build(compose("dataset=local", f"dataset.files.train={name}").dataset)
    problems = [*dataset.check()]
    assert problems
    assert {problem.key.partition(".")[0] for problem in problems} == {"files"}
    assert not canary.exists()


@pytest.mark.parametrize("name", ["rows.h5", "rows.hdf5"])
def test_dataset_of_the_hub_in_hdf5_is_refused(own_directory, canary, name):
    """Before its reader, which follows external links, is imported."""
    folder = own_directory / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        HubDataset(path="owner/name", splits={"train": "train"}).read()
    assert [problem.key for problem in caught.value.problems] == ["dataset.path"]
    assert not canary.exists()
