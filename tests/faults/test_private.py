"""What a run leaves and serves is the owner's: modes, addresses, and paths that lead nowhere else."""

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from hydratune.cli import main, ui
from hydratune.tracking.client import connect, typed_uri
from hydratune.tracking.delivery import Delivery
from hydratune.tracking.journal import Entry
from hydratune.training.hardware.environment import set_compile_cache
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PathEscapeError, resolve_inside


def mode(path):
    """Who may do what with a path."""
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
     ("10.0.0.7", False), ("localhost.evil.com", False), ("127.0.0.1.evil.com", False), ("", False)],
)  # fmt: skip
def test_the_pages_are_for_this_machine(monkeypatch, capsys, store, host, loopback):
    """Another address takes a flag, and is warned of; whatever it is, the server answers to its own names only."""
    served = []
    monkeypatch.setattr(ui.os, "execv", lambda _, arguments: served.append(arguments))
    monkeypatch.setattr(ui.os, "environ", {})
    monkeypatch.setattr(ui, "check_port", lambda *_: None)  # this machine has none of the last addresses
    command = ["--uri", store, "--host", host, "--port", "5001"]
    if loopback:
        ui.main(command)
        assert "no authentication" not in capsys.readouterr().err
    else:
        with pytest.raises(ConfigError) as caught:
            ui.main(command)
        (problem,) = caught.value.problems
        assert (problem.key, repr(host) in problem.text) == ("--host", True)
        assert "--without-authentication" in problem.hint
        assert served == []
        ui.main([*command, "--without-authentication"])
        assert "warning: no authentication: " in capsys.readouterr().err
    (arguments,) = served
    hosts = arguments[arguments.index("--allowed-hosts") + 1].split(",")
    assert "*" not in "".join(hosts)
    assert "localhost:5001" in hosts
    assert ui.os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_no_password_in_the_arguments_of_the_server(monkeypatch):
    """The store's address is in the environment, which other users cannot read."""
    served = []
    monkeypatch.setattr(ui.os, "execv", lambda _, arguments: served.append(arguments))
    monkeypatch.setattr(ui.os, "environ", {})
    ui.become_server("postgresql://me:canary@host/db", "127.0.0.1", 5000, None)
    assert "canary" not in str(served)
    assert ui.os.environ["MLFLOW_BACKEND_STORE_URI"].endswith("canary@host/db")


@pytest.mark.parametrize(("uri", "kept"), [("sqlite:///x.db", []), ("postgresql://me@host/db", ["PGPASSWORD"])])
def test_server_of_a_file_has_no_secrets(monkeypatch, uri, kept):
    """Someone else's store can name hosts to which MLflow would send them."""
    environment = {"DATABRICKS_TOKEN": "a", "AWS_SECRET_ACCESS_KEY": "b", "PGPASSWORD": "c", "LANG": "C"}
    monkeypatch.setattr(ui.os, "execv", lambda *_: None)
    monkeypatch.setattr(ui.os, "environ", environment if "PGPASSWORD" not in kept else {"PGPASSWORD": "c", "LANG": "C"})
    ui.become_server(uri, "127.0.0.1", 5000, None)
    assert [
        name for name in ui.os.environ if name in ("DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")
    ] == kept
    assert ui.os.environ["LANG"] == "C"


def test_server_calls_no_model(monkeypatch):
    """Someone else's store can name one, with its host."""
    from mlflow.utils.provider_filter import is_provider_allowed

    assert is_provider_allowed("databricks")  # positive control
    for name, value in ui.server_environment("sqlite:///x.db").items():
        monkeypatch.setenv(name, value)
    assert not any(map(is_provider_allowed, ("databricks", "openai", "bedrock", "vertex_ai", "anthropic")))


@pytest.mark.parametrize("verb", ["ui", "compare", "resume", "predict", "sync", "evaluate"])
def test_no_password_in_our_own_arguments(monkeypatch, verb):
    """One that was typed is refused, with the way to keep it out of the list of processes; that way works."""
    for typed in (["--uri", "http://me:canary@127.0.0.1:1"], ["--uri=http://me:canary@127.0.0.1:1"]):
        with pytest.raises(ConfigError) as caught:
            main.dispatch([verb, "run", *typed])
        (problem,) = caught.value.problems
        assert (problem.key, "contains a password" in problem.text) == ("--uri", True)
        assert "${oc.env:NAME}" in problem.hint
    monkeypatch.setenv("STORE", "http://me:canary@127.0.0.1:1")
    assert typed_uri("${oc.env:STORE}") == "http://me:canary@127.0.0.1:1"


def test_an_address_that_the_environment_lacks():
    """It is told by name."""
    with pytest.raises(ConfigError) as caught:
        typed_uri("${oc.env:NOWHERE}")
    (problem,) = caught.value.problems
    assert (problem.key, "'NOWHERE' not found" in problem.text) == ("--uri", True)


def test_a_plan_is_private():
    """The folder of a sweep has its configs, its storage and its logs."""
    from hydratune.config.composition import Request
    from hydratune.sweep.plan import make_plan
    from hydratune.sweep.stored_plan import write_plan

    plan, _ = make_plan(Request(("dataset=digits", "trainer.args.weight_decay=0,0.1")))
    write_plan(plan)
    assert mode(plan.directory) == 0o700


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "link", "link/secret"])
def test_names_stay_inside(tmp_path, name):
    """Neither dots nor absolute names nor links lead out of a folder."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to("..")
    assert resolve_inside(tmp_path / "run", "a/b") == tmp_path / "run" / "a" / "b"
    with pytest.raises(PathEscapeError):
        resolve_inside(tmp_path / "run", name)


@pytest.mark.parametrize("name", ["../secret.txt", "{absolute}"])
def test_a_journal_uploads_what_is_its_own(own_directory, store, name):
    """A run's directory that others made sends no file of ours anywhere, and removes none."""
    secret, run = own_directory / "secret.txt", own_directory / "run"
    secret.write_text("mine")
    (own_directory / "folder").mkdir()
    run.mkdir()
    client = connect(store)
    made = client.create_run(client.create_experiment("x"))
    where = {"uri": store, "experiment_id": made.info.experiment_id, "run_id": made.info.run_id}
    (run / "mlflow.json").write_text(json.dumps(where))
    deliver = Delivery(client, store, run)
    name = name.replace("{absolute}", str(secret))
    with pytest.raises(PathEscapeError):
        deliver(Entry("artifact", {"path": name, "folder": ""}, 0))
    (run / "other_run").mkdir()
    (run / ".models_to_send").symlink_to("other_run")
    (run / "other_run" / "inner").mkdir()
    for folder in ("../folder", ".", "other_run", "other_run/inner", ".models_to_send", ".models_to_send/inner"):
        model = {"name": "m", "folder": folder, "step": 0, "metrics": [], "params": {}, "datasets": [],
                 "staged": True, "registered_name": None, "alias": None}  # fmt: skip
        with pytest.raises(PathEscapeError):
            deliver(Entry("model", model, 0))
    assert client.list_artifacts(made.info.run_id) == []
    assert (own_directory / "folder").is_dir()
    assert (run / "other_run" / "inner").is_dir()


def test_a_tag_leads_only_to_its_own_run(own_directory, store):
    """A store that others write to cannot lead a run id to a directory that is not that run's."""
    from hydratune.tracking.run_lookup import RunLookup

    client = connect(store)
    experiment_id = client.create_experiment("x")
    made = client.create_run(experiment_id)
    (own_directory / "theirs" / ".hydra").mkdir(parents=True)
    client.set_tag(made.info.run_id, "hydratune.directory", str(own_directory / "theirs"))
    with pytest.raises(ConfigError, match=f"its mlflow.json does not name the run {made.info.run_id}"):
        RunLookup(store).directory(made.info.run_id)
    where = {"uri": store, "experiment_id": experiment_id, "run_id": made.info.run_id}
    (own_directory / "theirs" / "mlflow.json").write_text(json.dumps(where))
    assert RunLookup(store).directory(made.info.run_id) == own_directory / "theirs"


@pytest.mark.parametrize("verb", ["push", "sync", "evaluate", "predict"])
def test_linked_files_are_not_read(own_directory, verb):
    """A run of someone else would publish or upload the file of the user that a link in it names."""
    (own_directory / "secret").write_text("mine")
    folder = own_directory / "run" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "config.yaml").write_text("{}")
    (folder.parent / "metrics.json").write_text("{}")
    (folder / "README.md").write_text("x")
    (folder / "notes.txt").symlink_to(own_directory / "secret")
    with pytest.raises(ConfigError) as caught:
        main.dispatch([verb, "run", *(["rows.csv"] if verb == "predict" else [])])
    (problem,) = caught.value.problems
    assert "run/model/notes.txt" in problem.text


@pytest.fixture
def compile_cache(own_directory, monkeypatch):
    """The directory of compiled kernels in a folder for temporary files that all users share."""
    monkeypatch.setattr(tempfile, "tempdir", str(own_directory))
    monkeypatch.setenv("HOME", str(own_directory / "home"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    return own_directory / f"hydratune-torchinductor-{os.getuid()}"


def test_compiled_kernels_are_private(compile_cache):
    """torch.compile runs code from its cache; an own one is created, and used again."""
    for _ in range(2):
        set_compile_cache()
        assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == str(compile_cache)
        assert mode(compile_cache) == 0o700


@pytest.mark.parametrize("way", ["others may write", "group may write", "link", "dangling link", "file", "other owner"])
def test_compiled_kernels_of_another_user_are_not_used(compile_cache, own_directory, monkeypatch, way):
    """Another user may have created the directory first."""
    (own_directory / "theirs").mkdir()
    if way in ("others may write", "group may write"):
        compile_cache.mkdir()
        compile_cache.chmod(0o707 if way == "others may write" else 0o770)
    elif way in ("link", "dangling link"):
        compile_cache.symlink_to(own_directory / ("theirs" if way == "link" else "nowhere"))
    elif way == "file":
        compile_cache.write_text("")
    else:
        compile_cache.mkdir(0o700)
        owner = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: owner)
        compile_cache.rename(own_directory / f"hydratune-torchinductor-{os.getuid()}")
    set_compile_cache()
    used = Path(os.environ.pop("TORCHINDUCTOR_CACHE_DIR"))
    assert used == own_directory / "home" / ".cache" / "hydratune" / "torchinductor"
    assert mode(used) == 0o700


def test_default_cache_of_torch_is_shared(compile_cache):
    """Positive control: without a directory of ours, torch takes one that another user may have created."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    theirs = Path(cache_dir()).parent / Path(os.environ.pop("TORCHINDUCTOR_CACHE_DIR")).name
    assert theirs.parent == compile_cache.parent


def test_named_compile_cache_is_used(compile_cache, monkeypatch):
    """The environment is the user's."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    set_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"
    assert not compile_cache.exists()
