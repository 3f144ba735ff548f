"""Licenses of base models, as far as their files, their package, or the Hub state them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from hydratune.utils.yaml_files import read_front_matter

_TIMEOUT = 5.0  # seconds


def license_of(name: str, revision: str | None = None) -> str | None:
    """Return the license of a model: a Hub ID, or a directory; None if it is not stated or cannot be looked up."""
    path = Path(name)
    return _of_directory(path) if path.is_dir() else _of_repository(name, revision)


def _of_directory(path: Path) -> str | None:
    """Return the license on the model card of a directory, or that of the Python package that contains it."""
    card = path / "README.md"
    if card.is_file():
        stated = read_front_matter(card).get("license")
        return stated if isinstance(stated, str) and stated else None
    if "site-packages" not in path.parts:
        return None
    packages = importlib.metadata.packages_distributions()
    distributions = next((packages[part.name] for part in (path, *path.parents) if part.name in packages), [])
    for distribution in distributions[:1]:
        metadata = importlib.metadata.metadata(distribution)
        stated = next((metadata[name] for name in ("License-Expression", "License") if name in metadata), "")
        return stated.splitlines()[0] if stated else None
    return None


def _of_repository(repo_id: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        info = HfApi().model_info(repo_id, revision=revision, timeout=_TIMEOUT)
    except (OSError, ValueError):  # no network, no access, or no such repository
        return None
    stated = info.card_data.get("license") if info.card_data else None
    return str(stated) if stated else None
