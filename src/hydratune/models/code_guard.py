"""Refusal of code that comes with a checkpoint, except for one commit of one repository that the user allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydratune.config import allowlist
from hydratune.utils.checkpoint_references import LOADING, is_hub_kernel
from hydratune.utils.errors import KEY, Problem, invalid_value
from hydratune.utils.secret_names import LABELS

_COMMIT = re.compile(r"[0-9a-f]{40}")
# Fields of a model's config that name code.
_CODE_FIELDS = (
    *("attn_implementation", "auto_map", "checkpoint_path", "code_revision", "trust_remote_code", "use_kernels"),
)


def remote(repo_id: str, revision: str | None) -> Iterator[Problem]:
    """Yield an error if code of a repository lacks a pinned commit, or a permission that no config can give."""
    if Path(repo_id).exists():
        text = f"{KEY}=true is not possible for a directory, since its code has no commit to pin"
        hint = f"set {KEY}=false\nto run the code, install it as a package and add that to the allow-list"
        yield Problem("trust_remote_code", text, hint)
    elif not _COMMIT.fullmatch(str(revision)):
        requirement = "a commit hash of 40 digits if the code of the repository may run"
        hint = "review the code, and set the commit that you reviewed"
        yield invalid_value("revision", requirement, repr(revision) if revision else "null", hint)
    elif (name := f"{repo_id}@{revision}") not in allowlist.user_allowlist():
        text = f"{KEY}=true needs {name} on the allow-list"
        yield Problem("trust_remote_code", text, allowlist.how_to_allow(name))


def kernel(implementation: str | None) -> Iterator[Problem]:
    """Yield an error if transformers would download code to compute attention."""
    if implementation is not None and is_hub_kernel(implementation):
        text = f"{KEY}={implementation!r} would download code from the Hub"
        yield Problem("attn_implementation", text, f"set {KEY}=sdpa or null")


def fields(config: Mapping[str, Any], key: str = "config") -> Iterator[Problem]:
    """Yield an error for each field of a model's config, or of a config inside it, that names code or its location.

    The config class of the model, which `models.base.check_fields` compares with, is not imported here.
    """
    for name, value in config.items():
        if str(name).startswith("_") or name in _CODE_FIELDS or name in LOADING:
            reason = "it can load code"
            if str(name).startswith("_"):
                reason = "it is a private field"
            elif name in LOADING:
                reason = "it is a loading option, not a field of the model's config"
            yield Problem(f"{key}.{name}", f"{KEY} is not allowed: {reason}", f"remove {KEY}")
        elif isinstance(value, Mapping) and name not in LABELS:
            yield from fields(value, f"{key}.{name}")
