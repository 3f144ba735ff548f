"""Connect a sweep to Ray, and give its workers the environment variables that they need."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist, servers
from hydratune.config.hydra_guard import RAY_ADDRESS
from hydratune.utils import env_variables
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line
from hydratune.utils.files import PRIVATE

_CLIENT = "ray://"  # start of an address of Ray Client
_CLIENT_TIMEOUT = "Proxy failed to Connect"  # in the error of a head that is too busy for a new client
_CLIENT_LIMITS = "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S=300 and TIMEOUT_FOR_SPECIFIC_SERVER_S=300"
_VARIABLE = "RAY_ADDRESS"  # which Ray reads as well
# Credentials that a run reads from the environment although no config names them.
_CREDENTIALS = ("HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME")
_OBJECT_STORE = 78_643_200  # bytes, the minimum: workers exchange nothing through it
_REACHABLE = 10  # seconds to open a connection
_RETRIES = "2"  # attempts, where Ray's own default of 20 makes a wrong token take 20 seconds and an old address minutes
_LOCAL = "local"  # address of a new cluster on this machine
# Ray uses this switch on every system. Without it, its servers listen on all interfaces, also with `_node_ip_address`.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_LONGEST_PARENT = 26  # bytes of a directory for Ray's own, since paths of Unix sockets have at most 107


def connect(settings: DictConfig) -> None:
    """Connect this process to a running cluster, or start Ray on this machine.

    hydra-ray-launcher does not call `ray.init` after that. Its own call always sets `object_store_memory`, which a
    running cluster refuses.

    Args:
        settings: `hydra.launcher.ray.init`. Without an `address`, the variable RAY_ADDRESS counts.

    Raises:
        ConfigError: If the cluster cannot be reached, or refuses the token or the settings.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    arguments: Any = OmegaConf.to_container(settings, resolve=True)
    configured = arguments.pop("address", None)
    address = str(configured or os.environ.get(_VARIABLE) or _LOCAL)
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", _RETRIES)  # read when ray is imported
    _protect_token_file()
    if address == _LOCAL:
        arguments = _private_settings() | arguments
    import ray

    key = RAY_ADDRESS if configured else _VARIABLE
    _check_reachable(key, address)
    if not address.startswith(_CLIENT):  # with Ray Client, workers do not search the directory of the sweep
        # By default, workers would import modules of the current directory, which may belong to someone else.
        arguments["job_config"] = ray.job_config.JobConfig(_client_job=True)
    try:
        with _own_signal_handler():
            ray.init(address=address, **arguments)
    except (OSError, RuntimeError, ValueError, TypeError, ray.exceptions.RayError) as error:
        raise ConfigError(_refused(key, address, error)) from error


def _private_settings() -> dict[str, Any]:
    """Return settings for a new cluster that only this process and its children can use.

    Who knows the token of a cluster can run code in its workers, and read their secrets. Ray would write it to a file
    that every user of the machine can read, and serve the cluster to other machines.
    """
    os.environ.update({_LOOPBACK: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    import ray

    # If ray was imported before, it has already read these variables.
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    ray._raylet.Config.initialize("")  # type: ignore[attr-defined]
    candidates = (os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir())
    parents = (path for path in candidates if Path(path).is_dir() and 0 < len(os.fsencode(path)) <= _LONGEST_PARENT)
    private = tempfile.mkdtemp(prefix="ray-", dir=next(parents, "/tmp"))  # noqa: S108 (a new directory)
    atexit.register(_stop, private)
    # Ray allows everyone to write into its directory, so it must be inside a private one. Nobody could log in to the
    # dashboard.
    return {"_temp_dir": f"{private}/ray", "include_dashboard": False, "object_store_memory": _OBJECT_STORE}


def _stop(folder: str) -> None:
    """Stop Ray at the end of this process, and remove the directory of its cluster."""
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _protect_token_file() -> None:
    """Make Ray's file with the token of clusters unreadable for other users; Ray creates it with mode 0644."""
    with contextlib.suppress(OSError, RuntimeError):  # there is none, or no home directory
        (Path.home() / ".ray/auth_token").chmod(PRIVATE)


def with_environment(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Return a task that first sets the variables that its worker needs, since a worker inherits those of `ray start`.

    The values travel inside the pickled task. Ray writes arguments of tasks to no log, unlike a `runtime_env`.
    """
    names = {
        name: os.environ[name] for name in (*_CREDENTIALS, allowlist.VARIABLE, servers.VARIABLE) if name in os.environ
    }
    return functools.partial(_run, task, {**names, **env_variables.resolved()})


def _run(task: Callable[[DictConfig], Any], environment: Mapping[str, str], cfg: DictConfig) -> Any:
    os.environ.update(environment)
    return task(cfg)


def _check_reachable(key: str, address: str) -> None:
    """Open and close a connection, since Ray waits for minutes for an address where nothing listens."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not port.isdecimal():  # auto, local
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHABLE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        text = f"no Ray cluster answers at {KEY}={address}: {one_line(error)}"
        hint = "start Ray there with `ray start --head`, or correct the address"
        raise ConfigError(Problem(key, text, hint)) from error


def _refused(key: str, address: str, error: Exception) -> Problem:
    """Return the error to report for an exception of `ray.init`."""
    import ray

    reasons = f"{error} {error.__cause__}"
    if isinstance(error, ray.exceptions.AuthenticationError) or "InvalidAuthToken" in reasons:
        hint = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as on the nodes of the cluster"
        return Problem("RAY_AUTH_TOKEN", f"the token for the Ray cluster at {address} is missing or wrong", hint)
    if _CLIENT_TIMEOUT in reasons:
        hint = f"set {_CLIENT_LIMITS} before `ray start --head`"
        return Problem(key, f"the Ray head at {KEY}={address} could not start a process for this client in time", hint)
    text = f"cannot use Ray with {KEY}={address} and these settings: {one_line(error, 300)}"
    return Problem(key, text, "see docs/ray.md for the settings that a running cluster accepts")


@contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Restore the handler of SIGTERM that `ray.init` replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, where Ray replaces nothing
            signal.signal(signal.SIGTERM, handler)
