"""What needs the hub runs against one on loopback; without one, it is said at once."""

import json
import os
import subprocess
import sys

import pytest

import fake_hub
from hydratune.data import HubDataset
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError
from processes import HYDRATUNE

SECRET = "hf_canary0123456789"


@pytest.fixture
def hub_root(tmp_path, tiny_model):
    """A hub's files of one test."""
    return fake_hub.write_files(tmp_path / "hub", tiny_model)


def hydratune(url, *arguments, cwd=None):
    """Runs the console script with a hub at `url` and a token."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": "home", "HF_TOKEN": SECRET}
    env |= {"HF_HUB_DISABLE_XET": "1"}  # which needs more of a hub than ours has
    env.pop("HF_DATASETS_CACHE", None)
    if cwd:
        env["HYDRATUNE_CACHE"] = str(cwd / "cache")
    return subprocess.run([HYDRATUNE, *arguments], capture_output=True, text=True, env=env, cwd=cwd, check=False)


QUICK = ["experiment=mrpc", "trainer.args.max_steps=2", "tracking=none"]


@pytest.fixture(scope="module")
def classic(tmp_path_factory, tiny_model):
    """The folder of a run of `experiment=mrpc` that downloads and pushes; the hub, which is gone now; what it said."""
    folder = tmp_path_factory.mktemp("classic")
    push = ["trainer.args.push_to_hub=true", "trainer.args.hub_model_id=me/tiny"]
    with fake_hub.serve(fake_hub.write_files(tmp_path_factory.mktemp("hub"), tiny_model)) as server:
        done = hydratune(server.url, *QUICK, *push, "hydra.run.dir=run", cwd=folder)
    return folder, server, done


@pytest.mark.slow
def test_the_classic_from_download_to_push(classic):
    """`experiment=mrpc` downloads data and weights, trains, and pushes the final model, privately, without pickles."""
    folder, server, done = classic
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert {"test_accuracy", "test_f1"} <= set(metrics)
    assert [created["visibility"] for created in server.created] == ["private"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(server.pushed)
    assert not [name for name in server.pushed if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert server.pushed["model.safetensors"] == (folder / "run/model/model.safetensors").read_bytes()
    card = server.pushed["README.md"].decode()
    assert "base_model:\n- google-bert/bert-base-uncased" in card
    assert f"at commit `{fake_hub.COMMIT}`" in card
    assert "datasets:\n- nyu-mll/glue" in card
    assert 'folder = "me/tiny"' in card
    for path in (folder / "run").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_again_without_the_hub(classic):
    """What was downloaded once is used from the cache when the hub does not answer any more."""
    folder, server, _ = classic
    done = hydratune(server.url, *QUICK, "hydra.run.dir=second", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "second" / "model").is_dir()


@pytest.mark.slow
def test_an_adapter_knows_the_commit_of_its_network(hub_root, own_directory):
    """An adapter that is saved alone names the commit of the checkpoint that it belongs to."""
    lora = ["adapter=lora", "adapter.config.target_modules=[query]", "trainer.args.max_steps=1"]
    with fake_hub.serve(hub_root) as server:
        done = hydratune(server.url, "experiment=mrpc", *lora, "tracking=none", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    config = json.loads((own_directory / "run/model/adapter_config.json").read_text())
    assert config["revision"] == fake_hub.COMMIT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.name=mrcp", "cannot load 'nyu-mll/glue': BuilderConfig 'mrcp' not found"),
        ("dataset.splits.test=tset", "nyu-mll/glue has no split 'tset'"),
        ("model.pretrained_model_name_or_path=me/nothing", "cannot load 'me/nothing': "),
    ],
)  # fmt: skip
def test_what_the_hub_does_not_have(hub_root, own_directory, override, message):
    """A name that the hub does not know is one line, and the run's directory is taken away again."""
    with fake_hub.serve(hub_root) as server:
        done = hydratune(server.url, "experiment=mrpc", "tracking=none", override)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-2].startswith(f"error: {message}")
    assert "Traceback" not in done.stderr
    assert not (own_directory / "outputs").exists()


@pytest.mark.parametrize(("path", "suggested"), [("glue", "path=nyu-mll/glue"), ("nobody_knows_it", "huggingface.co")])
def test_short_ids_are_refused(path, suggested):
    """`glue` alone no longer loads, so it is told before anything is asked of the hub."""
    (problem,) = HubDataset(path=path).check()
    assert (problem.key, repr(path) in problem.text, suggested in problem.hints[0]) == ("path", True, True)


def test_offline_by_choice(monkeypatch):
    """HF_HUB_OFFLINE=1 asks nothing of the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked the network"))
    assert not hub.is_reachable()


def test_force_offline_if_unreachable_reaches_imported_libraries(monkeypatch):
    """They read the environment when they are imported, and would ask a Hub that does not answer for a minute."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(hub, "forced_offline", [])
    monkeypatch.setattr(hub, "WAITS", ())
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for library in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", False)
    hub.force_offline_if_unreachable({"model": hub.Repository("models", "me/tiny")})
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert datasets.config.HF_HUB_OFFLINE
    with pytest.raises(hub.PushError):
        hub.make_repository("me/tiny", private=None)
    assert not huggingface_hub.constants.HF_HUB_OFFLINE  # the Hub may answer at the end of a run


def write_card(folder, path):
    """A dataset in a directory whose card names a file."""
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        f'---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "{path}"\n---\n'
    )


@pytest.mark.parametrize(
    "path", ["{outside}", "../../outside.csv", "link.csv", "{outside}*", "data/../../../outside.csv"]
)
def test_card_of_a_dataset_names_no_file_outside(own_directory, path):
    """Someone else's dataset would read a file of the user, and the run would record it."""
    outside = own_directory / "outside.csv"
    outside.write_text("text,label\na,0\nb,1\n")
    folder = own_directory / "owner" / "name"
    write_card(folder, path.format(outside=outside))
    (folder / "data").mkdir()
    (folder / "link.csv").symlink_to(outside)
    with pytest.raises(ConfigError) as caught:
        HubDataset(path="owner/name", splits={"train": "train"}).read()
    assert [problem.key for problem in caught.value.problems] == ["dataset.path"]


@pytest.mark.parametrize("path", ["inside.csv", "data/*.csv", "data/../inside.csv"])
def test_card_of_a_dataset_names_its_files(own_directory, path):
    """Positive control: the same rows inside the directory are read."""
    folder = own_directory / "owner" / "name"
    write_card(folder, path)
    (folder / "data").mkdir()
    for name in ("inside.csv", "data/x.csv"):
        (folder / name).write_text("text,label\na,0\nb,1\n")
    rows = HubDataset(path="owner/name", splits={"train": "train"}).read().splits["train"]
    assert rows["text"][:] == ["a", "b"]


@pytest.mark.parametrize("name", ["rows.h5", "rows.xml", "rows.lance", "rows.toml"])
def test_dataset_in_a_format_that_can_name_other_files_is_refused(own_directory, name):
    """E.g. by external links of HDF5 and entities of XML, which would read a file of the user."""
    folder = own_directory / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        HubDataset(path="owner/name", splits={"train": "train"}).read()
    assert [problem.key for problem in caught.value.problems] == ["dataset.path"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "x"},
        {"HF_HOME": "~/h"},
        {"HF_HOME": "$HOME/h"},
        {"HUGGINGFACE_HUB_CACHE": "c"},
        {"HF_HUB_CACHE": "d"},
    ],
)
def test_checkpoints_are_checked_where_the_libraries_look(variables):
    """Otherwise an earlier download would be loaded unchecked."""
    code = "from hydratune.utils import hub; from huggingface_hub import constants as c; print(hub.cached_directory('models', 'a/b').parent == __import__('pathlib').Path(c.HF_HUB_CACHE))"
    others = ("XDG_CACHE_HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE")
    env = {name: value for name, value in os.environ.items() if name not in others} | variables
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "True\n"
