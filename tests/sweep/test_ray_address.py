"""The address of a Ray cluster is data: well-formed, and typed by the user unless it is one of this machine."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hydratune.cli.main import dispatch
from hydratune.config.hydra_guard import RAY_ADDRESS as KEY
from hydratune.sweep import ray_cluster, worker
from hydratune.utils.errors import ConfigError

pytestmark = pytest.mark.skipif(
    not find_spec("hydra_plugins.hydra_ray_launcher"), reason="hydra-ray-launcher is not installed"
)
SWEEP = ["-m", "seed=1,2", "hydra/launcher=ray", "tracking=none", "--dry-run"]


def wrong(*arguments):
    """The keys of the errors of a command."""
    with pytest.raises(ConfigError) as caught:
        dispatch([*arguments])
    return [problem.key for problem in caught.value.problems]


@pytest.mark.parametrize(
    "address", ["10.0.0.1:6379", "ray-head.local:6379", "ray://10.0.0.1:10001", "'[::1]:6379'", "auto", "local", "null"]
)
def test_ray_address_is_accepted(address):
    """Hosts with a port, with and without Ray's client, and Ray's own words for this machine."""
    assert dispatch([*SWEEP, f"{KEY}={address}"]) == 0


@pytest.mark.parametrize(
    "address",
    ["head", "head:x", "http://head:80", "my_module://x:1", "'head:1 --x'", '"head:1\\nx"', "'${oc.env:HOME}'", "{a: 1}"],
)  # fmt: skip
def test_ray_address_of_another_form_is_refused(address):
    """Another protocol is a module that Ray imports; an interpolation cannot be checked."""
    assert wrong(*SWEEP, f"{KEY}={address}") == [KEY]


def test_ray_address_in_a_file_is_refused(own_directory):
    """The host receives credentials and its results are unpickled, so a config from elsewhere cannot name it."""
    for name, address in (("far", "10.0.0.1:6379"), ("any", "auto"), ("here", "local")):
        file = own_directory / "conf" / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# @package _global_\nhydra: {{launcher: {{ray: {{init: {{address: '{address}'}}}}}}}}\n")
    conf = ["--config-dir", "conf"]
    assert wrong(*SWEEP, *conf, "experiment=far") == [KEY]
    assert dispatch([*SWEEP, *conf, "experiment=far", f"{KEY}=10.0.0.1:6379"]) == 0
    assert wrong(*SWEEP, *conf, "experiment=any") == [KEY]  # another user may have started it
    assert dispatch([*SWEEP, *conf, "experiment=here"]) == 0


@pytest.mark.parametrize(("typed", "key"), [(f"{KEY}=127.0.0.1:1", KEY), ("seed=1,2", "RAY_ADDRESS")])
def test_ray_address_without_a_cluster_is_one_error(own_directory, monkeypatch, typed, key):
    """Nothing listens there: the sweep ends before it starts workers, and leaves no directory."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert wrong(*SWEEP[:-1], typed) == [key]
    assert not list(own_directory.iterdir())


def test_head_that_is_too_busy_for_a_client_is_an_error_with_its_limits(monkeypatch):
    """Ray's own message is a traceback of the head, and names no setting."""
    ray = pytest.importorskip("ray")

    def fail(**_):
        raise ConnectionAbortedError("Traceback ...\nRuntimeError: Proxy failed to Connect to backend!")

    monkeypatch.setattr(ray, "init", fail)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            ray_cluster.connect(OmegaConf.create({"address": address}))
    (problem,) = caught.value.problems
    assert problem.key == KEY
    assert "TIMEOUT_FOR_SPECIFIC_SERVER_S=300" in problem.hint


def test_sweep_storage_from_a_missing_variable_is_refused(monkeypatch):
    """The parent resolves the address for its workers, so the variable is missing there or nowhere."""
    monkeypatch.delenv("SWEEP_STORAGE", raising=False)
    with pytest.raises(ConfigError, match="SWEEP_STORAGE") as caught:
        dispatch([*SWEEP, "sweep.storage=${oc.env:SWEEP_STORAGE}"])
    assert [problem.key for problem in caught.value.problems] == ["sweep.storage"]


def test_worker_without_the_sweep_directory_ends(compose, own_directory):
    """A node that does not share the directory is named, instead of trials that fail one after the other."""
    cfg = compose("+hydra.job.num=0", f"hydra.sweep.dir={own_directory}/elsewhere")
    with pytest.raises(ConfigError) as caught:
        worker.work(cfg)
    assert [problem.key for problem in caught.value.problems] == ["hydra.sweep.dir"]


LOCAL_CLUSTER = """
import json, os, stat, sys
from pathlib import Path
import psutil
from omegaconf import OmegaConf
from hydratune.sweep import ray_cluster
{start}
import ray
token = ray.get(ray.remote(lambda: os.environ.get("RAY_AUTH_TOKEN")).remote())
servers = [psutil.Process(), *psutil.Process().children(recursive=True)]
listening = [entry.laddr.ip for server in servers for entry in server.net_connections("inet") if entry.status == "LISTEN"]
session = Path(ray.get_runtime_context().worker.node.get_session_dir_path())
modes = [stat.S_IMODE(folder.stat().st_mode) for folder in session.parents]
print("RESULT", json.dumps([token, listening, modes, str(session)]))
"""


def local_cluster(start, **environment):
    """The token, listening addresses, modes of the directories, and directory of a new cluster of this machine."""
    command = [sys.executable, "-P", "-c", LOCAL_CLUSTER.format(start=start)]
    base = {"PATH": "/usr/bin:/bin", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**base, **environment})
    return json.loads(done.stdout.partition("RESULT ")[2])


def is_loopback(address):
    """Whether only this machine reaches an address."""
    return address.removeprefix("::ffff:") in ("127.0.0.1", "::1")


@pytest.mark.slow
def test_local_cluster_is_for_this_process_only(own_directory):
    """Its token is random and in no file, its servers listen on loopback, and its files are private and removed."""
    start = "ray_cluster.connect(OmegaConf.create({'num_cpus': 1}))"
    files = own_directory / ".ray"
    files.mkdir()
    long = own_directory / ("long" * 10)  # too long for the sockets
    long.mkdir()
    (files / "auth_token").write_text("1" * 64)
    (files / "auth_token").chmod(0o644)
    user = {"HOME": str(own_directory), "TMPDIR": str(long), "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "2" * 64}
    token, listening, modes, session = local_cluster(start, **user)
    assert len(token) >= 32
    assert token not in ("1" * 64, "2" * 64)
    assert listening
    assert [address for address in listening if not is_loopback(address)] == []
    assert 0o700 in modes
    assert not Path(session).exists()
    assert [path.name for path in files.iterdir()] == ["auth_token"]
    assert (files / "auth_token").read_text() == "1" * 64
    assert (files / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_local_cluster_of_ray_itself_is_open(own_directory):
    """Positive control of the test above: what Ray does by default."""
    folder = tempfile.mkdtemp(prefix="ray")
    _, listening, modes, _ = local_cluster(
        f"import ray; ray.init(num_cpus=1, _temp_dir={folder!r})", HOME=str(own_directory)
    )
    shutil.rmtree(folder, ignore_errors=True)
    assert not all(map(is_loopback, listening))
    assert 0o700 not in modes
    assert (own_directory / ".ray/auth_token").stat().st_mode & 0o077


def test_token_file_of_clusters_becomes_private(own_directory, monkeypatch):
    """Ray and `ray get-auth-token --generate` write it with the permissions of the umask."""
    monkeypatch.setenv("HOME", str(own_directory))
    token = own_directory / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("1" * 64)
    token.chmod(0o644)
    with pytest.raises(ConfigError):
        ray_cluster.connect(OmegaConf.create({"address": "127.0.0.1:1"}))
    assert token.stat().st_mode & 0o777 == 0o600
