"""Files that others made bring no code: checkpoints of the hub, of a directory, of a run, and adapters."""

import json
import os
import pickle
import shutil
import subprocess

import pytest

import fake_hub
from hydratune.cli import main
from hydratune.config.composition import without_hydra
from hydratune.models import adapters
from hydratune.training.job import Job, foreign_code, run_info
from hydratune.utils.errors import ConfigError
from processes import HYDRATUNE

CODE = """
from pathlib import Path
Path({place!r}).touch()
from transformers import BertConfig, BertForSequenceClassification
class EvilConfig(BertConfig):
    model_type = "evil"
class EvilModel(BertForSequenceClassification):
    config_class = EvilConfig
"""
MAP = {
    "AutoConfig": "modeling_evil.EvilConfig",
    "AutoModel": "modeling_evil.EvilModel",
    "AutoModelForSequenceClassification": "modeling_evil.EvilModel",
}


class Evil:
    """Pickled, it makes a file when it is loaded."""

    def __reduce__(self):
        return (open, (os.environ["CANARY"], "w"))


@pytest.fixture
def canary(own_directory, monkeypatch):
    """A file that exists once foreign code has run."""
    path = own_directory / "canary"
    monkeypatch.setenv("CANARY", str(path))
    return path


@pytest.fixture
def evil(tiny_model, own_directory, canary):
    """A checkpoint with code of its own."""
    folder = own_directory / "evil"
    shutil.copytree(tiny_model, folder)
    edit(folder / "config.json", model_type="evil", auto_map=MAP, architectures=["EvilModel"])
    (folder / "modeling_evil.py").write_text(CODE.format(place=str(canary)))
    return folder


def edit(path, **changes):
    """Changes fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def model(folder, *more):
    """Overrides of a run that starts from a folder."""
    named = ["model=pretrained", f"model.pretrained_model_name_or_path={folder}", *more]
    return [*named, "hardware=cpu", "hardware.threads=1", "trainer.args.max_steps=1"]


@pytest.mark.parametrize("kind", ["evil", "bert"])
def test_a_directory_brings_no_code(train, toy_files, evil, canary, kind):
    """Of an unknown network it is refused; of a known one, ours is used."""
    edit(evil / "config.json", model_type=kind)
    if kind == "evil":
        with pytest.raises(ConfigError) as caught:
            train(*toy_files, *model(evil))
        (problem,) = caught.value.problems
        assert problem.key == "model.pretrained_model_name_or_path"
        assert f"cannot load {str(evil)!r}" in problem.text
    else:
        train(*toy_files, *model(evil))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        ([], "model.trust_remote_code", "directory"),
        (["model.pretrained_model_name_or_path=me/evil"], "model.revision", "null"),
        (["model.pretrained_model_name_or_path=me/evil", "model.revision=main"], "model.revision", "'main'"),
        (["model.pretrained_model_name_or_path=me/evil", f"model.revision={fake_hub.COMMIT}"],
         "model.trust_remote_code", f"me/evil@{fake_hub.COMMIT} on the allow-list"),
        (["model.config.auto_map={AutoConfig: x--y.Z}"], "model.config.auto_map", "code"),
        (["model.config._name_or_path=me/evil"], "model.config._name_or_path", "private"),
        (["model.attn_implementation=kernels-community/flash-attn"], "model.attn_implementation",
         "'kernels-community/flash-attn'"),
    ],
)  # fmt: skip
def test_code_is_asked_for_outside_of_configs(train, toy_files, evil, canary, overrides, key, words):
    """Neither a directory, a branch, nor a commit that the user has not listed; nor kernels, nor fields that name code."""
    trusted = [] if "config" in key or "attn" in key else ["model.trust_remote_code=true"]
    with pytest.raises(ConfigError) as caught:
        train(*toy_files, *model(evil, *trusted, *overrides))
    assert any(problem.key == key and words in problem.text for problem in caught.value.problems), caught.value
    assert not canary.exists()


@pytest.mark.slow
def test_one_commit_that_the_user_lists(toy_files, evil, own_directory, canary):
    """The code of that commit runs, and the log says so."""
    shutil.copytree(evil, own_directory / "hub" / "models" / "me" / "evil")
    name = f"me/evil@{fake_hub.COMMIT}"
    options = ["model.trust_remote_code=true", f"model.revision={fake_hub.COMMIT}", "tracking=none"]
    with fake_hub.serve(own_directory / "hub") as server:
        env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": "home",
               "HF_HUB_DISABLE_XET": "1", "HYDRATUNE_ALLOW": name}  # fmt: skip
        command = [HYDRATUNE, *toy_files, *model("me/evil", *options), "hydra.run.dir=run"]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert canary.exists()
    said = f"code: this run executes code beyond hydratune's own allow-list: {name}"
    assert said in done.stderr
    assert said in (own_directory / "run" / "hydratune.log").read_text()
    canary.unlink()
    with pytest.raises(ConfigError) as caught:
        main.dispatch(["predict", "run", "test.jsonl"])
    (problem,) = caught.value.problems
    assert (problem.key, "'run/model' needs code from the Hub" in problem.text) == ("RUN", True)
    assert not canary.exists()


def test_mlflow_is_told_of_foreign_code(compose, own_directory, monkeypatch):
    """A run's tag lists the classes and commits that the user's own list allowed; others have none."""
    monkeypatch.setenv("HYDRATUNE_ALLOW", "json")
    cfg = without_hydra(compose("+trainer.callbacks.x._target_=json.JSONDecoder"))
    assert foreign_code(cfg) == ["json.JSONDecoder"]
    job = Job(own_directory)
    assert run_info(cfg, job).tags["hydratune.foreign_code"] == "json.JSONDecoder"
    assert "hydratune.foreign_code" not in run_info(without_hydra(compose()), job).tags


@pytest.mark.parametrize("safe", [True, False])
def test_pickled_weights(train, toy_files, tiny_model, own_directory, canary, safe):
    """They are refused; also where they may be loaded, nothing but tensors is."""
    folder = own_directory / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ConfigError) as caught:
        train(*toy_files, *model(folder, f"model.use_safetensors={safe}"))
    (problem,) = caught.value.problems
    assert problem.key == "model.pretrained_model_name_or_path"
    assert f"cannot load {str(folder)!r}" in problem.text
    assert not canary.exists()


LORA = ["adapter=lora", "adapter.config.target_modules=[query]"]


def test_an_adapter_brings_no_code(train, toy, canary, own_directory):
    """Neither pickled weights, nor a module to import, nor a base network with pickled weights."""
    folder = train(*toy, *LORA, "trainer.args.max_steps=1").directory / "model"
    adapters.load(folder)
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    (own_directory / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    sound = config.read_text()
    edit(config, megatron_config={"tensor_model_parallel_size": 1}, megatron_core="evil")
    with pytest.raises(ConfigError, match=r"^adapter\.config\.megatron_config "):
        adapters.load(folder)
    base = own_directory / "base"
    shutil.copytree(json.loads(sound)["base_model_name_or_path"], base)
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(), protocol=2))
    config.write_text(sound)
    edit(config, base_model_name_or_path=str(base))
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        adapters.load(folder)
    config.write_text(sound)
    weights.rename(own_directory / "kept")
    weights.with_name("adapter_model.bin").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ConfigError) as caught:
        main.dispatch(["predict", "run", "test.jsonl"])
    (problem,) = caught.value.problems
    assert (problem.key, "cannot load the model in 'run/model'" in problem.text) == ("RUN", True)
    (own_directory / "kept").rename(weights)
    edit(folder / "config.json", architectures=["Trainer"])
    with pytest.raises(ValueError, match="Trainer is not a model class"):
        adapters.load(folder)
    with pytest.raises(ConfigError, match=r"adapter\.config\.megatron_config "):
        train(*toy, *LORA, "+adapter.config.megatron_config={a: 1}", "+adapter.config.megatron_core=evil")
    assert not canary.exists()
