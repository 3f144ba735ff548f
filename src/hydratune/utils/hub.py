"""Access to the Hugging Face Hub: checks of availability and of checkpoints, and pushes.

The checks report a repository that is unavailable before half a minute of retries.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from hydratune.utils.checkpoint_references import (
    MAX_BYTES,
    REQUIRED_OBJECTS,
    foreign_files,
    is_malformed,
    links_outside,
)
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line
from hydratune.utils.files import expand_home
from hydratune.utils.provenance import redact

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

T = TypeVar("T")
WAITS = (1, 4, 16)  # seconds before each retry of a failed step of a push
LOGIN = "run `hf auth login`, or set HF_TOKEN, with a token that has write access"


forced_offline: list[str] = []  # the variable, if this process has set it because the Hub did not answer


class PushError(Exception):
    """Error for a push that failed but may succeed later."""


class Repository(NamedTuple):
    """A repository that a config needs from the Hub; `kind` is `models` or `datasets`."""

    kind: str
    repo_id: str


def endpoint() -> str:
    """Return the Hub's address, as huggingface_hub reads it."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _is_offline() -> bool:
    """Return whether the environment forbids requests to the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")


@functools.cache
def is_reachable() -> bool:
    """Return whether the Hub answers with any HTTP status; asked once per process, for at most 3 seconds."""
    if _is_offline():
        return False
    request = urllib.request.Request(endpoint(), method="HEAD")  # noqa: S310 (the address is the user's own)
    try:
        with urllib.request.urlopen(request, timeout=3):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def is_cached(kind: str, repo_id: str) -> bool:
    """Return whether the local cache has an earlier download of a `models` or `datasets` repository."""
    directories = [cached_directory(kind, repo_id)]
    if kind == "datasets":
        directories.append(_prepared() / repo_id.replace("/", "___"))
    return any(directory.is_dir() for directory in directories)


def home() -> Path:
    """Return the directory of the cache of Hugging Face's libraries."""
    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return _expanded(os.environ.get("HF_HOME", f"{cache}/huggingface"))


def cached_directory(kind: str, repo_id: str) -> Path:
    """Return the directory of a repository in the local cache."""
    default = os.environ.get("HUGGINGFACE_HUB_CACHE", f"{home()}/hub")
    return _expanded(os.environ.get("HF_HUB_CACHE", default)) / f"{kind}--{repo_id.replace('/', '--')}"


def extracted_archives() -> Path:
    """Return the directory into which `datasets` extracts the archives of all datasets."""
    downloads = os.environ.get("HF_DATASETS_DOWNLOADED_DATASETS_PATH", _prepared() / "downloads")
    return Path(downloads) / "extracted"


def _prepared() -> Path:
    """Return the directory of datasets that `datasets` has prepared."""
    return Path(os.environ.get("HF_DATASETS_CACHE", home() / "datasets"))


def _expanded(path: str) -> Path:
    """Return a path as huggingface_hub expands it."""
    return Path(os.path.expandvars(expand_home(path)))


def check_checkpoint(key: str, name: str) -> None:
    """Raise ConfigError if JSON files of a checkpoint are malformed, or if its files name anything outside it.

    Args:
        key: Key that the error names.
        name: Directory, or ID of a cached repository.

    Raises:
        ConfigError: A file is malformed, names something outside the checkpoint, or is a link to it.
    """
    folder = Path(name)
    folders = [folder] if folder.is_dir() else [*cached_directory("models", name).glob("snapshots/*")]
    references = [*links_outside(folder)] if folder.is_dir() else []
    if not references:  # a link may lead to a file that has no end
        required = (snapshot / file for snapshot in folders for file in REQUIRED_OBJECTS)
        if malformed := next(filter(is_malformed, required), None):
            limit = f"of at most {MAX_BYTES // 1_000_000} MB"
            text = f"{malformed} of the checkpoint {name!r} is not a JSON object {limit}"
            raise ConfigError(Problem(key, text, "restore the file"))
        references = [text for snapshot in folders for text in foreign_files(snapshot)]
    if references:
        text = f"the checkpoint {name!r} refers to something outside it: {references[0]}"
        raise ConfigError(Problem(key, text, "if you trust the checkpoint, remove the reference"))


def check_no_adapter(key: str, name: str, revision: str | None = None) -> None:
    """Raise ConfigError if a checkpoint to load as a whole model also has an adapter.

    transformers would load the model that the adapter names instead, from any place, and any kind of adapter into it.

    Args:
        key: Key that the error names.
        name: Directory, or ID of a repository.
        revision: Branch, tag, or commit of the repository.

    Raises:
        ConfigError: The checkpoint has the config of an adapter.
    """
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(name, revision=revision):
        text = f"the checkpoint {name!r} contains an adapter, so it cannot be loaded as a full model"
        hint = f"merge the adapter into its base model, or set {KEY} to the base model"
        raise ConfigError(Problem(key, text, hint))


def check(needed: Mapping[str, Repository]) -> Iterator[Problem]:
    """Yield one error for all config keys whose repository neither the cache nor the Hub can serve."""
    missing = {key: repo for key, repo in needed.items() if not is_cached(*repo) and not is_reachable()}
    if missing:
        yield _unreachable(", ".join(missing), *(repo.repo_id for repo in missing.values()))


def force_offline_if_unreachable(needed: Mapping[str, Repository]) -> None:
    """Make the Hub's libraries use only their cache if the Hub does not answer; each request would try for 20 s."""
    if not needed or _is_offline() or is_reachable():
        return
    forced_offline.append("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"  # for child processes, and for libraries that are imported later
    for name in ("huggingface_hub.constants", "datasets.config"):
        if library := sys.modules.get(name):
            library.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def unreadable(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the exceptions of libraries for files of a checkpoint that lack keys or have values of other types."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    malformed = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
    return (*more, *malformed, OSError, pickle.UnpicklingError, SafetensorError, StrictDataclassError)


@contextmanager
def loading(key: str, repo_id: str) -> Iterator[None]:
    """Raise ConfigError for exceptions of the Hub's libraries."""
    try:
        yield
    except ConfigError:
        raise
    except unreadable() as error:
        # ConnectionError, HfHubHTTPError, "not a valid model identifier", a pickle that is more than weights
        if not is_reachable() and not Path(repo_id).exists():
            raise ConfigError(_unreachable(key, repo_id)) from error
        hint = "" if Path(repo_id).is_dir() else "check the name and the revision"
        raise ConfigError(Problem(key, f"cannot load {repo_id!r}: {one_line(error, 300)}", hint)) from error


@contextmanager
def loading_checkpoint(key: str, name: str, revision: str | None = None) -> Iterator[None]:
    """Raise ConfigError for a checkpoint whose files name other files, before it is loaded, and those of `loading`.

    Args:
        key: Key that the errors name.
        name: Directory, or ID of a repository, whose JSON files are downloaded first.
        revision: Branch, tag, or commit of the repository.
    """
    is_directory = Path(name).is_dir()
    with loading(key, name):
        if not is_directory:
            download_descriptions(name, revision)
        check_checkpoint(key, name)
        yield
    if not is_directory:  # all of its files are in the cache by now
        check_checkpoint(key, name)


@functools.cache
def download_descriptions(repo_id: str, revision: str | None) -> None:
    """Download the JSON files of a repository, once per process."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined] # not in its __all__

    disable_progress_bars("huggingface_hub.snapshot_download")  # the files are small
    snapshot_download(repo_id, revision=revision, allow_patterns="*.json")


def _unreachable(key: str, *repo_ids: str) -> Problem:
    text = f"cannot reach {endpoint()} (needed for {' and '.join(map(repr, repo_ids))})"
    return Problem(key, text, "check your connection and HF_HUB_OFFLINE, or set HF_ENDPOINT to a mirror")


def commit(repo_id: str, revision: str | None) -> str | None:
    """Return the commit that the cache holds for a revision of a model, which transformers 5 does not report."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def check_push(key: str, repo_id: str, token: str | None) -> None:
    """Raise ConfigError for each reason for a push to fail that is known before training and uploading.

    Args:
        key: Key that names the repository.
        repo_id: `NAME` or `OWNER/NAME`.
        token: Access token; None for the one of `hf auth login` or HF_TOKEN.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # not in its __all__

    problems = []
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = one_line(error).partition(": ")[0]
        problems.append(Problem(key, f"{KEY} is not a valid repository ID: {repo_id!r} ({reason})"))
    if not (token or get_token()):
        problems.append(Problem("hub", f"no access token for the Hub (needed to push to {repo_id!r})", LOGIN))
    if problems:
        raise ConfigError(*problems)


def make_repository(repo_id: str, private: bool | None, token: str | None = None) -> str:
    """Return the full ID of a model's repository, created if necessary; None for `private` is the owner's default.

    Raises:
        ConfigError: The Hub refuses, or a private repository was requested but the existing one is public.
        PushError: The Hub fails.
    """
    api = _api(token)
    with _pushing(repo_id):
        full_id = str(_patiently(lambda: api.create_repo(repo_id, private=private, exist_ok=True)).repo_id)
        is_private = _patiently(lambda: api.model_info(full_id)).private
        if private is False and is_private:
            _patiently(lambda: api.update_repo_settings(full_id, private=False))
    if private and is_private is False:
        hint = f"use another repository, or push to the public one with `hydratune push RUN --to {full_id} --public`"
        raise ConfigError(Problem("hub", f"the repository {full_id!r} is public, not private", hint))
    return full_id


def upload(folder: Path, repo_id: str, token: str | None = None) -> str:
    """Upload a folder's files to a repository and return its address; files that are there are not sent again.

    Raises:
        ConfigError: The Hub refuses.
        PushError: The Hub fails.
    """
    api = _api(token)
    message = "Fine-tuned with hydratune"
    with _pushing(repo_id):
        _patiently(lambda: api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message))
    return str(redact(f"{endpoint()}/{repo_id}"))  # HF_ENDPOINT may have a password


def _api(token: str | None) -> HfApi:
    from huggingface_hub import HfApi, constants

    if forced_offline:  # the Hub may answer by now, hours later
        constants.HF_HUB_OFFLINE = False
    return HfApi(endpoint=endpoint(), token=token)


@contextmanager
def _pushing(repo_id: str) -> Iterator[None]:
    """Turn any exception of a push into a ConfigError if the Hub refuses, or else into a PushError."""
    try:
        yield
    except Exception as error:  # HTTP errors, connection errors of a client, OSError, RuntimeError of an upload
        if _status(error) in (401, 403):
            text = f"the Hub refuses to write to {repo_id!r} with this token (HTTP {_status(error)})"
            raise ConfigError(Problem("hub", text, LOGIN)) from error
        raise PushError(f"the push to {repo_id!r} failed: {_reason(error)}") from error


def _patiently(call: Callable[[], T]) -> T:
    """Return the result of a call; retry it after errors of the Hub or the connection that may be temporary.

    huggingface_hub itself retries the requests of an upload, except for those that create the repository and the
    commit.
    """
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            if _is_final(error):
                raise
            log.warning("hub: %s; retrying in %d s", _reason(error), wait)
            time.sleep(wait)
    return call()


def _is_final(error: Exception) -> bool:
    """Return whether the same call would fail again."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status < 500 and status not in (408, 429)  # a timeout, or too many requests
    return isinstance(error, ValueError | TypeError | OfflineModeIsEnabled)


def _reason(error: BaseException) -> str:
    """Return the message of an error and of its cause on one line."""
    reason = (one_line(error) or type(error).__name__).partition(" For more information")[0][:200]
    return f"{reason}: {_reason(error.__cause__)}" if isinstance(error, RuntimeError) and error.__cause__ else reason


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status of an exception or of its causes; None if they have no status."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return int(response.status_code)
        if match := re.search(r"HTTP status (?:client|server) error \((\d+)", str(error)):  # hf_xet has no response
            return int(match[1])
        error = error.__cause__
    return None
