"""Servers and databases that the user has named.

hydratune sends nothing to other servers, and does not open SQLite files elsewhere.

The address of a store can come from someone else's config, run directory, or journal. So a store counts only if the
user typed its address, as `--uri`, `tracking.uri=`, or `sweep.storage=`, or has it in HYDRATUNE_SERVERS or
MLFLOW_TRACKING_URI. Other environment variables do not count: outsiders can write e.g. the commit message that CI puts
into one. Typed addresses are recorded in a file of the user, as ssh does in `known_hosts`.
"""

from __future__ import annotations

import contextlib
import itertools
import netrc
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import database_urls
from hydratune.utils.errors import KEY, Problem
from hydratune.utils.files import expand_home, is_inside
from hydratune.utils.places import RESULTS, result_links, untrusted_link
from hydratune.utils.user_records import read_record, write_record

VARIABLE = "HYDRATUNE_SERVERS"  # addresses, separated by commas; also passes servers on to child processes
_RECORD = "servers.json"
_MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"
_TYPED = re.compile(r"(?:--uri|\+{0,2}(?:tracking\.uri|sweep\.storage))=(.+)", re.DOTALL)
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(.+)", re.DOTALL | re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_DATABRICKS = re.compile(r"databricks(://[\w.:-]+)?")  # a workspace, which a profile of the user names
_AMBIGUOUS = re.compile(r"[\s\\]")  # characters at which parsers of addresses disagree about the host
# An `@` that does not end the user information. Clients then disagree about the host, and would send a part of the
# password to a name server.
_UNENCODED = re.compile(r"://.*[@/?#].*@", re.DOTALL)
_UNCLEAR = ""  # the server of an address that parsers may read in different ways; it is never confirmed


def confirm_typed(arguments: Sequence[str]) -> None:
    """Record the servers among the arguments of a command, and pass all recorded servers to its child processes."""
    typed_stores = {store for text in _addresses(arguments) if (store := _store(text))}
    recorded_stores = _recorded()
    if new_stores := typed_stores - recorded_stores:
        with contextlib.suppress(OSError):  # e.g. no home directory: the servers count for this command only
            write_record(_RECORD, sorted(recorded_stores | new_stores))
    listed = {text for text in os.environ.get(VARIABLE, "").split(",") if text}
    if stores := recorded_stores | typed_stores | listed:
        os.environ[VARIABLE] = ",".join(sorted(stores))


def ignore_default_login() -> None:
    """Ignore the entry `default` of `~/.netrc` in this process, which HTTP clients would send to any server.

    A dataset can name files and images on servers of someone else. Entries for a host (`machine`) go to it alone.
    """

    def authenticators(self: netrc.netrc, host: str) -> tuple[str, str, str] | None:
        return self.hosts.get(host)

    netrc.netrc.authenticators = authenticators  # type: ignore[method-assign]


def problem(uri: str, key: str) -> Problem | None:
    """Return an error if an address leads to a server that the user has not named, else None.

    All addresses lead to a server, except for those of SQLite. One that cannot be read may be read by a client.

    The server would receive the record of the run, which may hold rows of data and values of the environment. It would
    also receive the credentials that clients send to any host: tokens of MLflow, and the passwords of `~/.netrc` and
    `~/.pgpass`.

    Args:
        uri: Resolved address.
        key: Key that the error names.
    """
    if sqlite_has_parameters(uri):
        return Problem(key, f"the address in {KEY} must be sqlite:///PATH without parameters")
    server = _server(uri)
    if server is None or server in _confirmed():
        return None
    if _UNENCODED.search(uri):
        text = f"the address in {KEY} contains '@' in another place than between user and host"
        hint = "percent-encode the user and the password: %40 for @, %2F for /, %3F for ?, %23 for #"
        return Problem(key, text, hint)
    if _backend(uri) in database_urls.BACKENDS and database_urls.has_unknown_parameters(uri):
        text = f"the address in {KEY} has a parameter that is not supported"  # its name may be a piece of a password
        return Problem(key, text, "percent-encode '&' in a password as %26, and remove unknown parameters")
    if server == _UNCLEAR:
        return Problem(key, f"the address in {KEY} does not clearly name a server", "write it as SCHEME://HOST:PORT")
    hint = "to confirm it, type its address once: tracking.uri=ADDRESS, sweep.storage=ADDRESS, or --uri ADDRESS"
    return Problem(key, f"{KEY} names a server that you have not confirmed: {server}", hint)


def sqlite_has_parameters(uri: str) -> bool:
    """Return whether an address of SQLite is more than a path: SQLite reads `file:PATH?...` as another path."""
    rest = uri.partition(":")[2]
    return _backend(uri) == "sqlite" and ("?" in rest or "file:" in rest.lower())


def stored_problem(uri: str, directory: Path, key: str) -> Problem | None:
    """Return an error if a stored address names a SQLite file that may not be opened, else None.

    Opening the file may create tables in it. So it must belong to this project, to the run's project, or to the run
    itself, unless the user has named it.

    Args:
        uri: The address.
        directory: Directory of the run or sweep that stores the address.
        key: Key that the error names.
    """
    if not (match := _SQLITE.fullmatch(uri.strip())):
        return None
    path = expand_home(match[1]).resolve()
    stored_directory = directory.resolve()
    projects = [Path.cwd(), *(folder.parent for folder in stored_directory.parents if folder.name in RESULTS)]
    results = (project / name for project in projects for name in RESULTS)
    # The directory itself can be the default, `outputs`. What a link of someone else names is no place of the project.
    own_folders = (folder for folder in (directory, *results) if not untrusted_link(folder))
    if is_confirmed(uri) or any(is_inside(path, folder) for folder in own_folders):
        return None
    text = f"{KEY} names a database outside {', '.join(RESULTS)}, and {str(directory)!r}: {str(path)!r}"
    return Problem(key, text, f"if you trust it, add --uri {shlex.quote(f'sqlite:///{path}')}")


def links_above(uri: str) -> Iterator[Problem]:
    """Yield the errors of `result_links` for the directory for results that a SQLite file is in."""
    if match := _SQLITE.fullmatch(uri.strip()):
        path = expand_home(match[1]).absolute()
        yield from (error for error in result_links() if path.is_relative_to(Path.cwd() / error.key))


def is_confirmed(uri: str) -> bool:
    """Return whether the user has named a store: typed, now or earlier, or in HYDRATUNE_SERVERS."""
    store = _store(uri)
    return bool(store) and store in _confirmed()


def without_passwords(uri: str) -> str:
    """Return the text of an address without the password that its server receives.

    A user name alone is a token for HTTP. The password of an address that cannot be read remains in it.
    """
    scheme = uri.strip().partition(":")[0].lower()
    if _backend(uri) in database_urls.BACKENDS:
        return database_urls.without_password(uri) or uri
    with contextlib.suppress(ValueError):
        if scheme in _PORTS:
            url_parts = urlsplit(uri.strip())
            user_information, _, host = url_parts.netloc.rpartition("@")
            user, colon, _ = user_information.partition(":")
            return " ".join((user if colon else "", host, url_parts.path, url_parts.query, url_parts.fragment))
    return uri


def lists_folder(folder: Path) -> bool:
    """Return whether HYDRATUNE_SERVERS lists a folder or one above it, as `file:///PATH` or `/PATH`."""
    addresses = (urlsplit(text) for text in os.environ.get(VARIABLE, "").split(","))
    paths = (Path(unquote(address.path)) for address in addresses if address.scheme in ("", "file"))
    return any(path.is_absolute() and is_inside(folder, path) for path in paths)


def _addresses(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the addresses among the arguments of a command, with resolved interpolations."""
    flag_values = [text for flag, text in itertools.pairwise(arguments) if flag == "--uri"]
    for text in (*flag_values, *(match[1] for argument in arguments if (match := _TYPED.fullmatch(argument)))):
        with contextlib.suppress(OmegaConfBaseException):  # reported where the address is used
            yield str(OmegaConf.create({"uri": text.strip("'\"")}).uri)


def _confirmed() -> set[str]:
    """Return the recorded stores and those that the user has named in an environment variable."""
    addresses = [text for text in os.environ.get(VARIABLE, "").split(",") if text]
    stores = {store for text in (*addresses, os.environ.get(_MLFLOW_VARIABLE, "")) if text and (store := _store(text))}
    return stores | set(addresses) | _recorded()


def _store(uri: str) -> str | None:
    """Return the recorded form of an address: a server, or the absolute path of a SQLite file; None for others."""
    if match := _SQLITE.fullmatch(uri.strip()):
        return f"sqlite:///{quote(str(expand_home(match[1]).resolve()))}"
    return _server(uri)


def _server(uri: str) -> str | None:
    """Return `SCHEME://HOST:PORT` of the address of a server or database, or `_UNCLEAR`; None for SQLite."""
    uri = uri.strip()
    scheme, backend = uri.partition(":")[0].lower(), _backend(uri)
    if backend == "sqlite":
        return None
    if _UNENCODED.search(uri):
        return _UNCLEAR
    if backend in database_urls.BACKENDS:
        return database_urls.server(uri) or _UNCLEAR
    if _DATABRICKS.fullmatch(uri):
        return uri
    try:
        url_parts = urlsplit(uri)
        if not url_parts.hostname or _AMBIGUOUS.search(uri):
            return _UNCLEAR
        return f"{scheme}://{url_parts.hostname}:{url_parts.port or _PORTS.get(scheme, '')}"
    except ValueError:  # the port is not a number
        return _UNCLEAR


def _backend(uri: str) -> str:
    """Return the scheme of an address without a driver, e.g. `postgresql` of `postgresql+psycopg://...`."""
    return uri.strip().partition(":")[0].lower().partition("+")[0]


def _recorded() -> set[str]:
    return {*read_record(_RECORD, [])}
