"""Refusal of code that comes with a checkpoint, except for one commit of one repository that the user allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydratune.config import allowlist
from hydratune.utils.errors import Mistake, Problem

_COMMIT = re.compile(r"[0-9a-f]{40}")
# Fields of a model's config that name code, or arguments of `from_pretrained` that name its location.
_CODE_FIELDS = (
    *("attn_implementation", "auto_map", "checkpoint_path", "code_revision", "trust_remote_code", "use_kernels"),
)


def remote(repo_id: str, revision: str | None) -> Iterator[Problem]:
    """Yield an error if code of a repository lacks a pinned commit, or a permission that no config can give."""
    if Path(repo_id).exists():
        fix = "Leave it out; make the directory's code a package of your own and list that."
        yield Mistake("trust_remote_code", "false for a directory, whose code has no commit", "true", fix)
    elif not _COMMIT.fullmatch(str(revision)):
        fix = "Read the code, and name the commit that you have read."
        yield Mistake("revision", "a commit of 40 hex digits, since its code is to run", repr(revision), fix)
    elif (name := f"{repo_id}@{revision}") not in allowlist.user_allowlist():
        fix = allowlist.how_to_allow(name)
        yield Mistake("trust_remote_code", "false, or a permission outside of configs", "true", fix)


def kernel(implementation: str | None) -> Iterator[Problem]:
    """Yield an error if transformers would download code to compute attention."""
    if implementation is not None and "/" in implementation:
        fix = "Set model.attn_implementation=sdpa."
        yield Mistake("attn_implementation", "a kernel of the installed packages", repr(implementation), fix)


def fields(config: Mapping[str, Any], key: str = "config") -> Iterator[Problem]:
    """Yield an error for each field of a model's config, or of a config inside it, that would name code."""
    for name, value in config.items():
        if str(name).startswith("_") or name in _CODE_FIELDS:
            yield Mistake(f"{key}.{name}", "a field that holds no code", repr(name), "Leave it out.")
        elif isinstance(value, Mapping):
            yield from fields(value, f"{key}.{name}")
