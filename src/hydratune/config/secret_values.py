"""Secrets in a config, which must come from the environment and from nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import frozen_values, servers
from hydratune.utils.errors import KEY, Problem, child_key
from hydratune.utils.provenance import has_literal_secret, passwords_of, redact
from hydratune.utils.secret_names import is_secret

# An interpolation. In the user information of an address, the text next to the interpolation matches too.
_INTERPOLATION = re.compile(r"(?<=://)[^/\s]*\$\{[^{}]*\}[^/\s]*(?=@)|\$\{[^{}]*\}")
# An interpolation without one inside; the group has its literals: defaults of variables, and arguments of resolvers.
_LITERALS = re.compile(r"\$\{(?:oc\.env:[^{},]*,?|[\w.]+:|[^{},:]*)([^{}]*)\}")
# Keys of addresses, of which `store_secret` checks all but the passwords.
STORES = ("tracking.uri", "sweep.storage")
# Keys that may hold a secret of the environment, because it is masked wherever they are written. The name of a key is
# not enough: `model.config.id2label.token` is a part of the model.
_MASKED = (*STORES, "tracking.run_name", "trainer.args.hub_token")
_MASKED_NODES = ("tracking.tags.", "vars.")
# Keys below `hydra` that Hydra fills with the overrides, which are checked by themselves, and with the user's
# directories. `hydra_secrets` resolves the directories of results.
_OF_THE_COMMAND = ("hydra.job.override_dirname", "hydra.overrides", "hydra.run", "hydra.runtime.config_sources",
                   "hydra.runtime.cwd", "hydra.runtime.output_dir", "hydra.searchpath", "hydra.sweep")  # fmt: skip


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
        written = (_INTERPOLATION.sub("", value), *_with_literals(value))
        if (is_secret(key) and not frozen_values.VARIABLE.fullmatch(value)) or any(map(has_literal_secret, written)):
            hint = f"export it as an environment variable, and set {KEY}='${{oc.env:NAME}}'"
            if key.endswith("hub_token"):
                hint = "run `hf auth login`, or export HF_TOKEN"
            yield Problem(key, f"{KEY} contains a secret or password", hint)


def _with_literals(value: str) -> list[str]:
    """Return the text in which interpolations are replaced by what is written out in them; empty if that is nothing."""
    literals: list[str] = []

    def literal(match: re.Match[str]) -> str:
        literals.append(match[1].strip(" '\""))
        return literals[-1]

    while _LITERALS.search(value):
        value = _LITERALS.sub(literal, value)
    return [value] if any(literals) else []


def all_secrets(cfg: DictConfig) -> Iterator[Problem]:
    """Yield the errors of all secrets of a composed config that is used without `check_config`.

    Values that are missing or do not resolve are skipped: they are reported where they are used.
    """
    run_cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    problems = [*literal_secrets(run_cfg)]
    problems += resolved_secrets(run_cfg, {problem.key for problem in problems})
    problems += hydra_secrets(cfg.hydra, passwords(run_cfg))
    problems += (frozen_values.text_of_interpolation(key) for key, value in _leaves(run_cfg) if "${" in str(value))
    yield from problems or directory_secrets(cfg, passwords(run_cfg))


def passwords(node: Any) -> set[str]:
    """Return the passwords of the addresses in a config, whatever the names of their variables."""
    return passwords_of(value for _, value in _leaves(node) if isinstance(value, str) and "://" in value)


def resolved_secrets(node: Any, reported: Collection[str]) -> Iterator[Problem]:
    """Yield an error for each value that holds a secret of the environment, except where a secret is expected.

    Names of labels, runs, and experiments become parts of models, directories, and records, in which nothing is masked.
    Passwords of addresses count as secrets too. Where a secret is expected, it must be one that is masked.
    """
    config_passwords = passwords(node)
    for key, value in _leaves(node):
        if not isinstance(value, str) or key in reported:
            continue
        is_expected = key in _MASKED or key.startswith(_MASKED_NODES)
        if has_literal_secret(redact(value, key) if is_expected else value, config_passwords):
            text = f"{KEY} contains a secret of the environment, and would be written to files and sent to servers"
            yield Problem(key, text, "leave the secret out")


def hydra_secrets(hydra: DictConfig, config_passwords: Collection[str] = ()) -> Iterator[Problem]:
    """Yield an error for each value below `hydra` with a secret; Hydra writes the node to a file.

    Choices of the defaults list are resolved: `- optional GROUP: ${oc.env:NAME}` would be a name of an option.
    """
    for key, value in _leaves(OmegaConf.to_container(hydra, resolve=False), "hydra", _OF_THE_COMMAND):
        if isinstance(value, str) and has_literal_secret(value, config_passwords):
            yield Problem(key, f"{KEY} contains a secret, and Hydra writes it to a file", "leave the secret out")


def directory_secrets(cfg: DictConfig, config_passwords: Collection[str]) -> Iterator[Problem]:
    """Yield an error for each directory of results whose path contains a secret; most contain the name of the run."""
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        with suppress(OmegaConfBaseException):  # reported by `hydra_guard.place`
            if has_literal_secret(str(OmegaConf.select(cfg, key)), config_passwords):
                yield Problem(key, f"{KEY} contains a secret of the environment", "leave the secret out")


def store_secret(uri: str, key: str, config_passwords: Collection[str]) -> Problem | None:
    """Return an error if an address holds a secret in another place than its password, else None.

    The rest becomes a path, or a name that others can read.
    """
    if not has_literal_secret(servers.without_passwords(uri), config_passwords):
        return None
    text = f"{KEY} contains a secret of the environment outside its password"
    return Problem(key, text, "leave the secret out, or type the address")


def _leaves(node: Any, key: str = "", omitted: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the values of a node with their keys, without values that do not resolve and the nodes of some keys."""
    if key in omitted:
        return
    if isinstance(node, Mapping | list | ListConfig):
        for name in node if isinstance(node, Mapping) else range(len(node)):
            with suppress(OmegaConfBaseException):
                yield from _leaves(node[name], child_key(key, name), omitted)
    else:
        yield key, node
