"""The MLflow servers that the user has named: credentials and values of the environment are sent to no other.

The address of a server can come from a config, a run directory, or a journal of someone else. So a server counts once
the user typed its address, as `--uri` or `tracking.uri=`, or has it in an environment variable. What was typed is
recorded in a file of the user, as ssh does in `known_hosts`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune import env_variables
from hydratune.errors import Mistake
from hydratune.files import PRIVATE_FOLDER, write_json

VARIABLE = "HYDRATUNE_SERVERS"  # passes them on to the processes of a command
# What MLflow's client authenticates with.
_CREDENTIALS = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_AUTH"),
    *("MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
)
_TYPED = re.compile(r"(?:--uri|\+{0,2}tracking\.uri)=(.+)", re.DOTALL)
_PORTS = {"http": 80, "https": 443}
_SHORTEST = 4  # characters of a value that an address is searched for


def confirm_typed(arguments: Sequence[str]) -> None:
    """Record the servers among the arguments of a command, and pass all that are recorded to its processes."""
    typed = {server for text in _addresses(arguments) if (server := _server(text))}
    recorded = _recorded()
    if new := typed - recorded:
        with contextlib.suppress(OSError):  # e.g. no home directory: they count for this command
            _file().parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
            write_json(_file(), sorted(recorded | new))
    if recorded | typed:
        os.environ[VARIABLE] = ",".join(sorted(recorded | typed))


def mistake(uri: str, key: str) -> Mistake | None:
    """Return what is wrong with an address to which secrets would be sent; None if nothing is.

    Args:
        uri: The resolved address.
        key: What the error names.
    """
    server = _server(uri)
    if server is None or server in _confirmed():
        return None
    names = [name for name in _CREDENTIALS if os.environ.get(name)]
    names += [name for name, value in env_variables.resolved().items() if len(value) >= _SHORTEST and value in uri]
    if not names:
        return None
    got = f"{server}, to which {', '.join(dict.fromkeys(names))} would be sent"
    fix = "Type the address as tracking.uri=... or --uri ..., which confirms the server for later commands too."
    return Mistake(key, "a server that you have named yourself", got, fix)


def _addresses(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the addresses among the arguments of a command, with their interpolations resolved."""
    follows = [text for flag, text in itertools.pairwise(arguments) if flag == "--uri"]
    for text in (*follows, *(found[1] for argument in arguments if (found := _TYPED.fullmatch(argument)))):
        with contextlib.suppress(OmegaConfBaseException):  # reported where the address is used
            yield str(OmegaConf.create({"uri": text.strip("'\"")}).uri)


def _confirmed() -> set[str]:
    """Return the recorded servers and those of addresses in the environment."""
    texts = (text for value in os.environ.values() if "://" in value for text in value.split(","))
    return {server for text in texts if (server := _server(text))} | _recorded()


def _server(uri: str) -> str | None:
    """Return `SCHEME://HOST:PORT` of an HTTP address; None for any other."""
    try:
        parts = urlsplit(uri.strip())
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    except ValueError:  # of a port that is no number
        return None


def _file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "hydratune" / "servers.json"


def _recorded() -> set[str]:
    try:
        return {str(server) for server in json.loads(_file().read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return set()
