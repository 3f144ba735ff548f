"""Secrets in a config, which must come from the environment and from nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydratune.utils.errors import KEY, Problem
from hydratune.utils.provenance import has_literal_secret, is_secret

# An interpolation. In the user information of an address, the text next to the interpolation matches too.
_INTERPOLATION = re.compile(r"(?<=://)[^/\s]*\$\{[^{}]*\}[^/\s]*(?=@)|\$\{[^{}]*\}")
# Keys that may hold a secret of the environment, because it is masked wherever they are written. The name of a key is
# not enough: `model.config.id2label.token` is a part of the model.
_MASKED = ("tracking.uri", "tracking.tags.", "tracking.run_name", "sweep.storage", "trainer.args.hub_token", "vars.")
_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\w+\}")


def literal_secrets(cfg: DictConfig) -> Iterator[Problem]:
    """Yield an error for each secret that is written out; `${oc.env:NAME}` stays as it is in every file of a run.

    A secret comes from the user's environment and from nowhere else. With someone else's token, a push would send the
    model to them.
    """
    leaves = [*_leaves(OmegaConf.to_container(cfg, resolve=False))]
    if has_literal_secret("\n".join(key for key, _ in leaves)):
        for key in (key for key, _ in leaves if has_literal_secret(key)):
            yield Problem(key, f"the name of the key {KEY} contains a secret", "rename the key")
    for key, value in leaves:
        if not isinstance(value, str) or value == "???":
            continue
        written = _INTERPOLATION.sub("", value)
        if (is_secret(key) and not _FROM_ENVIRONMENT.fullmatch(value)) or has_literal_secret(written):
            hint = f"export it and use {KEY}='${{oc.env:NAME}}'"
            if key.endswith("hub_token"):
                hint = "run `hf auth login`, or export HF_TOKEN"
            yield Problem(key, f"{KEY} contains a secret or password", hint)


def resolved_secrets(plain: Any, reported: Collection[str]) -> Iterator[Problem]:
    """Yield an error for each value that holds a secret of the environment, except where a secret is expected.

    Names of labels, runs, and experiments become parts of models, directories, and records, in which nothing is masked.
    """
    for key, value in _leaves(plain):
        is_expected = key.startswith(_MASKED) or key in reported
        if isinstance(value, str) and not is_expected and has_literal_secret(value):
            text = f"{KEY} contains a secret of the environment, and would be written to files and sent to servers"
            yield Problem(key, text, "leave the secret out")


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if pairs is None:
        yield key, node
    else:
        for name, value in pairs:
            yield from _leaves(value, f"{key}.{name}".lstrip("."))
