"""Whether the Hugging Face hub can serve what a config asks for, said before half a minute of retries."""

from __future__ import annotations

import functools
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hydratune.errors import ConfigError, Mistake, one_line

log = logging.getLogger(__name__)

OFFLINE_FIX = "Connect, set HF_ENDPOINT to a mirror, or stay offline with dataset=wordnet_supersense model=minilm."


class Repository(NamedTuple):
    """What a config asks of the hub; `kind` is `models` or `datasets`."""

    kind: str
    repo_id: str


def endpoint() -> str:
    """The hub's address, as huggingface_hub reads it."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@functools.cache
def is_reachable() -> bool:
    """Whether the hub answers at all; any HTTP status counts. Asked once a process, for at most 3 seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
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
    """Whether an earlier download of a `models` or `datasets` repository lies in the local cache."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    prepared = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
    places = [hub / f"{kind}--{repo_id.replace('/', '--')}"]
    if kind == "datasets":
        places.append(prepared / repo_id.replace("/", "___"))
    return any(place.is_dir() for place in places)


def check(needed: Mapping[str, Repository]) -> Iterator[Mistake]:
    """One mistake for all of the config keys whose repository neither the cache nor the hub can serve."""
    missing = {key: repo for key, repo in needed.items() if not is_cached(*repo) and not is_reachable()}
    if missing:
        yield _unreachable(", ".join(missing), *(repo.repo_id for repo in missing.values()))


def settle(needed: Mapping[str, Repository]) -> None:
    """Makes the hub's libraries use their cache at once where the hub does not answer; call before importing them."""
    if needed and not is_reachable():
        os.environ["HF_HUB_OFFLINE"] = "1"


@contextmanager
def loading(key: str, repo_id: str) -> Iterator[None]:
    """Turns what the hub's libraries raise for a missing repository or a missing network into a mistake."""
    try:
        yield
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ConnectionError, HfHubHTTPError, "not a valid model identifier"
        if not is_reachable() and not Path(repo_id).exists():
            raise ConfigError(_unreachable(key, repo_id)) from error
        raise ConfigError(
            Mistake(key, f"to load {repo_id!r}", one_line(error)[:500], "Check the name and revision.")
        ) from error


def _unreachable(key: str, *repo_ids: str) -> Mistake:
    wanted = " and ".join(map(repr, repo_ids))
    return Mistake(key, f"the Hugging Face hub at {endpoint()} to serve {wanted}", "no answer from it", OFFLINE_FIX)


def publish(folder: Path, repo_id: str | None, private: bool | None) -> None:
    """Uploads a model's files to the hub; `repo_id` null takes the folder's run for a name."""
    from huggingface_hub import HfApi

    api = HfApi()
    url = api.create_repo(repo_id or folder.parent.name, private=private, exist_ok=True)
    api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message="Fine-tuned with hydratune")
    log.info("hub: pushed to %s", url)
