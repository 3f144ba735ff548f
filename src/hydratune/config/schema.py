"""JSON Schema of config files, for completion in editors, from the signatures that validation reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from hydratune.config.annotations import json_schema
from hydratune.config.instantiate import RESERVED
from hydratune.config.options import Option, options, shipped_dir
from hydratune.config.signatures import signature
from hydratune.utils.errors import ConfigError, Problem, similar

_DRAFT = "http://json-schema.org/draft-07/schema#"  # the draft that editors know best
_CALLBACKS = "trainer/callbacks"  # its options are mappings of names to nodes
_GLOBAL = "experiment"  # its options change all groups
_NULL = {"type": "null"}
_INTERPOLATION = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
_TOP_LEVEL: dict[str, dict[str, Any]] = {
    "name": {"type": "string"},
    "seed": {"type": "integer"},
    "objective": {"type": "string"},
    "resume": {"enum": ["auto", None]},
    "vars": {"type": "object"},
    "hydra": {"type": "object"},
}
_DEFAULTS = {"defaults": {"type": "array", "description": "Options that this file is based on, or selects"}}
_COMMENT = re.compile(r"^( *)([\w-]+):.*?(?:\s#\s*(.*))?$")


def schema(group: str | None = None) -> dict[str, Any]:
    """Return the schema of the options of a group, or of experiments and of `train.yaml` for None.

    Raises:
        ConfigError: There is no such group.
    """
    by_group: dict[str, list[Option]] = {}
    for option in options(shipped_dir()):
        by_group.setdefault(option.group, []).append(option)
    if group is not None and group not in by_group:
        hint = similar("group", group, by_group, "list the groups with `hydratune configs`")
        raise ConfigError(Problem("group", f"unknown config group {group!r}", hint))
    if group not in (None, _GLOBAL):
        return {"$schema": _DRAFT, **_group(str(group), by_group[str(group)])}
    groups = {name: _group(name, entries) for name, entries in by_group.items() if "/" not in name and name != _GLOBAL}
    values = {name: _with_interpolation(value) for name, value in _TOP_LEVEL.items()}
    text = (shipped_dir() / "train.yaml").read_text(encoding="utf-8")
    nodes = {key: node for key, node in yaml.safe_load(text).items() if isinstance(node, dict) and "_target_" in node}
    values |= {key: _node([node], key, dict(_comments(text))) for key, node in nodes.items()}  # of no group, e.g. cv
    return {
        "$schema": _DRAFT,
        "type": "object",
        "properties": {**_DEFAULTS, **values, **groups},
        "additionalProperties": False,
    }


def _group(name: str, group_options: Sequence[Option]) -> dict[str, Any]:
    """Return the schema of the options of one group."""
    texts = [option.path.read_text(encoding="utf-8") for option in group_options]
    examples = [{key: value for key, value in yaml.safe_load(text).items() if key != "defaults"} for text in texts]
    comments = {key: comment for text in reversed(texts) for key, comment in _comments(text)}
    if name == _CALLBACKS:
        nodes = [node for example in examples for node in example.values()]
        return {"type": "object", "properties": _DEFAULTS, "additionalProperties": _node(nodes, "", {})}
    return _node(examples, "", comments, _DEFAULTS)


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the comment of each line of a YAML file that has both."""
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not (match := _COMMENT.match(line)):
            continue
        indent = len(match[1])
        parents = [(i, name) for i, name in parents if i < indent]
        parents.append((indent, match[2]))
        if match[3]:
            yield ".".join(name for _, name in parents), match[3]


def _node(
    examples: Sequence[Mapping[str, Any]],
    key: str,
    comments: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the schema of a node: the arguments of its `_target_`, or of all targets here if it has none.

    Args:
        examples: Nodes of the shipped configs at this place.
        key: Their key in their files.
        comments: Key -> comment.
        more: Further properties.
    """
    targets = sorted({str(example["_target_"]) for example in examples if "_target_" in example})
    reserved: dict[str, Any] = {name: {} for name in RESERVED}
    reserved["_target_"] = {"type": "string", "examples": targets}
    every: dict[str, Any] = {**reserved, **(more or {})}
    branches, is_open = [], False
    for target in targets:
        arguments, accepts_any = _arguments(target, examples, key, comments)
        properties = {**reserved, **(more or {}), **arguments}
        branches.append(
            {
                "if": {"properties": {"_target_": {"const": target}}, "required": ["_target_"]},
                "then": {"properties": properties, "additionalProperties": accepts_any},
            }
        )
        for name, value in arguments.items():  # targets may differ in the type of an argument
            every[name] = value if every.get(name, value) == value else {"anyOf": [every[name], value]}
        is_open |= accepts_any
    without = {"not": {"required": ["_target_"]}}
    branches.append({"if": without, "then": {"properties": every, "additionalProperties": is_open}})
    return {"type": "object", "allOf": branches}


def _arguments(
    target: str, examples: Sequence[Mapping[str, Any]], key: str, comments: Mapping[str, str]
) -> tuple[dict[str, Any], bool]:
    """Return the schema of each argument of a target, and whether it accepts others."""
    known = signature(target)
    names = {name for example in examples for name in example} - {*RESERVED}
    arguments = {
        name: _with_interpolation(json_schema(parameter))
        for name, parameter in (known.parameters.items() if known else ())
        if not name.startswith("_")
    }
    for name in sorted(names & {*arguments} if known and not known.accepts_any else names):
        nodes = [example[name] for example in examples if isinstance(example.get(name), dict)]
        full_key = f"{key}.{name}".lstrip(".")
        if any("_target_" in node for node in nodes):
            is_optional = any(name in example and example[name] is None for example in examples)
            arguments[name] = {"anyOf": [_node(nodes, full_key, comments), _INTERPOLATION, *[_NULL] * is_optional]}
        elif nodes and name == "callbacks":  # by name, unlike Trainer's own list
            arguments[name] = {"type": "object"}
        elif name not in arguments:
            arguments[name] = {}
        if full_key in comments:
            arguments[name] = {**arguments[name], "description": comments[full_key]}
    return arguments, known is None or known.accepts_any


def _with_interpolation(value: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also accepts `${...}` and the mark `???` of required values."""
    return {"anyOf": [value, _INTERPOLATION]} if value else {}
