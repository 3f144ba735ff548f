"""A model reaches the hub, or the run is whole without it and the rest can be sent later."""

import json
import re
from types import SimpleNamespace

import pytest

import fake_hub
from hydratune.cli import push
from hydratune.tracking.client import connect
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError

SECRET = "hf_canary0123456789"
WANTED = ["trainer.args.push_to_hub=true", "trainer.args.hub_model_id=me/tiny"]
# huggingface_hub 2.4 sends large files by an argument of httpx2 that has another name now
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
COMMIT = r"POST .*/commit/main"


@pytest.fixture
def waits(monkeypatch):
    """The seconds that a push would have waited."""
    seen = []
    monkeypatch.setattr(hub, "time", SimpleNamespace(sleep=seen.append))
    return seen


@pytest.fixture
def server(tmp_path, monkeypatch, waits):
    """A hub that this process may reach, with a token for it."""
    assert not waits
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with fake_hub.serve(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def run(train, toy):
    """A finished run that was not pushed."""
    return train(*toy, "trainer.args.max_steps=1")


def sent(server, pattern):
    """How many requests of a kind came."""
    return sum(bool(re.search(pattern, line)) for line in server.log)


def tags(store):
    """The tags of the only MLflow run."""
    client = connect(store)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FINISHED"
    return run.data.tags


def test_trouble_on_the_way(train, toy, store, server, waits):
    """A connection that drops inside the weights and a server in trouble are tried again, later each time."""
    server.faults = {"PUT /upload": ["drop"], COMMIT: [502, "drop", 503], "POST /api/repos/create": [500]}
    result = train(*toy, *WANTED, "trainer.args.max_steps=1")
    assert result.pushed
    assert waits == [1, 1, 4, 16]  # one to make the repository, three to commit
    folder = result.directory / "model"
    assert server.pushed == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sent(server, "PUT /upload") == 2
    assert tags(store)["hub_url"] == f"{server.url}/me/tiny"


def test_a_failure_loses_nothing(train, toy, store, server, caplog):
    """A hub that stays away leaves the run whole, said once with the command that sends the rest, and only that."""
    server.faults = {COMMIT: [500] * 4}
    result = train(*toy, *WANTED, "trainer.args.max_steps=1")
    assert not result.pushed
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "the push to 'me/tiny' failed: Server error '500" in said
    assert said.endswith("hydratune push run --to me/tiny")
    assert json.loads((result.directory / "metrics.json").read_text())["test_accuracy"] >= 0
    assert {"README.md", "model.safetensors"} <= {path.name for path in (result.directory / "model").iterdir()}
    assert "hub_url" not in tags(store)
    assert push.main(["run", "--to", "me/tiny"]) == 0
    assert sent(server, "PUT /upload") == 1
    assert set(server.pushed) == {path.name for path in (result.directory / "model").iterdir()}
    assert tags(store)["hub_url"] == f"{server.url}/me/tiny"


def test_push_takes_an_mlflow_id(train, toy, store, server):
    """The ID that `runs` and the MLflow UI show names the run, too."""
    train(*toy, "trainer.args.max_steps=1")
    client = connect(store)
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert push.main([record.info.run_id, "--to", "me/other", "--uri", store]) == 0
    assert "README.md" in server.pushed


def test_what_is_there_is_not_sent_again(run, server, capsys):
    """A second push of the same files sends none, and says the same address."""
    assert push.main([str(run.directory), "--to", "me/other"]) == 0
    commits = sent(server, COMMIT)
    assert push.main([str(run.directory), "--to", "me/other"]) == 0
    assert (commits, sent(server, COMMIT), sent(server, "PUT /upload")) == (1, 1, 1)
    assert set(capsys.readouterr().out.splitlines()) == {f"hub      {server.url}/me/other"}
    assert 'folder = "me/other"' in server.pushed["README.md"].decode()


def test_a_hub_that_stays_away(run, server, capsys):
    """The verb fails with one line and without a traceback."""
    server.faults = {"POST /api/repos/create": ["drop"] * 4}
    assert push.main([str(run.directory), "--to", "me/tiny"]) == 1
    line, _ = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the push to 'me/tiny' failed: ")


@pytest.mark.parametrize("request_", ["POST /api/repos/create", "preupload", COMMIT])
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_may_not(run, server, waits, request_, status):
    """A refusal, at whatever step, is not tried again, and names the ways to give a token."""
    server.faults = {request_: [status] * 2, "GET /api/models/me/tiny$": [status] if "create" in request_ else []}
    with pytest.raises(ConfigError) as caught:
        push.main([str(run.directory), "--to", "me/tiny"])
    (problem,) = caught.value.problems
    assert "'me/tiny'" in problem.text and f"HTTP {status}" in problem.text
    assert "`hf auth login`" in problem.hint and "HF_TOKEN" in problem.hint
    assert not waits


def test_no_token_is_told_before_training(train, toy, server, monkeypatch):
    """Without any token, or with a name that the hub does not take, nothing is trained."""
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError) as caught:
        train(*toy, "trainer.args.push_to_hub=true", "trainer.args.hub_model_id=a/b/c")
    assert [problem.key for problem in caught.value.problems] == ["trainer.args.hub_model_id", "hub"]
    assert "hf auth login" in str(caught.value)
    assert server.log == []


def test_private_means_private(run, server):
    """A new repository is private; one that is public is refused, until the user says so."""
    push.main([str(run.directory), "--to", "me/new"])
    assert server.settings == {"me/new": True}
    server.settings["me/open"] = False
    sent_before = sent(server, "preupload")
    with pytest.raises(ConfigError) as caught:
        push.main([str(run.directory), "--to", "me/open"])
    (problem,) = caught.value.problems
    assert (problem.key, "'me/open' is public" in problem.text, "--public" in problem.hint) == ("hub", True, True)
    assert sent(server, "preupload") == sent_before
    assert push.main([str(run.directory), "--to", "me/open", "--public"]) == 0
    assert push.main([str(run.directory), "--to", "me/new", "--public"]) == 0
    assert server.settings == {"me/new": False, "me/open": False}


def test_the_user_names_the_repository(train, toy, server):
    """The config of someone else's run could name any repository of the user, whose model would be replaced."""
    train(*toy, "trainer.args.max_steps=1", "trainer.args.hub_model_id=me/production")
    with pytest.raises(ConfigError) as caught:
        push.main(["run"])
    assert [problem.key for problem in caught.value.problems] == ["--to"]
    assert server.log == []


def test_only_finished_runs(own_directory):
    """A directory without a model is no run that can be pushed."""
    with pytest.raises(ConfigError) as caught:
        push.main(["."])
    (problem,) = caught.value.problems
    assert (problem.key, "'.'" in problem.text, "config.yaml" in problem.text) == ("RUN", True, True)
    assert list(own_directory.iterdir()) == []
