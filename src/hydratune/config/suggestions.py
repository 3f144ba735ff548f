"""Suggestions for mistyped keys and options: first other names of the same thing, then similar spellings."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hydratune.config.signatures import signature
from hydratune.utils.errors import MOST_OPTIONS, nearest, one_of
from hydratune.utils.file_suffixes import SUFFIXES
from hydratune.utils.other_names import meaning_of, option_of

Groups = Mapping[str, Sequence[str]]
TRAINING_ARGUMENTS = "transformers.Seq2SeqTrainingArguments"
# Group -> options whose class has more arguments than that of the default option -> the class.
_CLASSES = {
    "dataset": {"local": "hydratune.data.LocalFiles", "hub": "hydratune.data.HubDataset"},
    "hardware": {"ddp": "hydratune.training.Distributed"},
}

# Group -> other name -> option.
OPTIONS: dict[str, dict[str, str]] = {
    "task": {
        **dict.fromkeys(("ner", "pos", "tagging", "token"), "token_classification"),
        **dict.fromkeys(("classification", "text_classification", "text-classification"), "sequence_classification"),
        **dict.fromkeys(("sft", "chat", "instruct"), "supervised_fine_tuning"),
        **dict.fromkeys(("clm", "lm", "language_modeling", "text-generation"), "causal_lm"),
        **dict.fromkeys(("mlm", "fill-mask"), "masked_lm"),
        **dict.fromkeys(("qa", "squad", "question-answering"), "question_answering"),
        **dict.fromkeys(("summarization", "translation", "text2text"), "seq2seq"),
        **dict.fromkeys(("multilabel", "multi_label"), "multi_label_classification"),
        **dict.fromkeys(("image", "vision"), "image_classification"),
        "swag": "multiple_choice",
    },
    "sweep": dict.fromkeys(("bayes", "bayesian", "optuna"), "tpe"),
    "hardware": {**dict.fromkeys(("cuda", "single_gpu"), "gpu"), **dict.fromkeys(("multi_gpu", "distributed"), "ddp")},
    "tracking": dict.fromkeys(("off", "false", "null"), "none"),
    "adapter": dict.fromkeys(("peft", "low_rank"), "lora"),
}
# Group -> overrides that take the ID of a repository on the Hub. IDs of datasets without an owner no longer load.
_HUB = {
    "model": ("model=pretrained model.pretrained_model_name_or_path={}", "{}"),
    "dataset": ("dataset=hub dataset.path={}", "OWNER/{}"),
}
# Group -> option and key that take a path.
_PATHS = {
    "model": ("model=pretrained", "model.pretrained_model_name_or_path"),
    "dataset": ("dataset=local", "dataset.files.train"),
}
_SIMILAR, _TYPO = 0.7, 0.85  # lowest similarities of an option
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def suggest_option(group: str, choice: object, options: Sequence[str], is_listed: bool = False) -> str:
    """Return the hints for an option that a group does not have.

    >>> suggest_option("task", "ner", ["causal_lm", "token_classification"])
    'a similar option exists: task=token_classification'
    >>> print(suggest_option("model", "gpt2", ["bert", "gpt_tiny"]))
    for a model on the Hub, use model=pretrained model.pretrained_model_name_or_path=gpt2
    choose 'bert' or 'gpt_tiny'

    Args:
        group: The config group.
        choice: The unknown option.
        options: The options of the group.
        is_listed: Whether the group takes a list of options.
    """
    if group in _PATHS and isinstance(choice, str) and _is_path(choice):
        option, key = _PATHS[group]
        return f"for a file or a directory, use {option} {shlex.quote(f'{key}={choice}')}"
    alias = OPTIONS.get(group, {}).get(str(choice).lower())
    # `bert_tiny` is more likely a name of another tool or of the Hub than a typo of `vit_tiny`.
    match = alias if alias in options else nearest(choice, options, cutoff=_TYPO if group in _HUB else _SIMILAR)
    if match:
        return f"a similar option exists: {shlex.quote(f'{group}=[{match}]') if is_listed else f'{group}={match}'}"
    command = f"hydratune configs {group}"
    hints = [f"choose {one_of(options)}" if len(options) <= MOST_OPTIONS else f"list the options with `{command}`"]
    if group in _HUB and isinstance(choice, str) and _HUB_ID.fullmatch(choice):
        overrides, short_id = _HUB[group]
        repo_id = choice if "/" in choice else short_id.format(choice)
        hints = [f"for a {group} on the Hub, use {overrides.format(repo_id)}", *hints]
    return "\n".join(hints)


def _is_path(text: str) -> bool:
    """Return whether a text is a path, not an ID on the Hub."""
    return text.startswith((".", "/", "~")) or Path(text).suffix.lower() in SUFFIXES


def suggest_key(name: str, value: object, groups: Groups, config: Mapping[str, Any]) -> str:
    """Return the hint for an unknown key at the top level; empty if its name means and resembles nothing.

    >>> suggest_key("lr", 1e-4, {}, {"seed": 1, "trainer": {"args": {"learning_rate": 1e-4}}})
    'a similar key exists: trainer.args.learning_rate'

    Args:
        name: The key; of a mapping with one value, such as `training.lr=1`, that of the value counts too.
        value: Its value.
        groups: Group -> names of its options.
        config: The config without unknown keys.
    """
    if isinstance(value, Mapping) and len(value) == 1:  # only for training arguments: others may be the user's own
        hint = suggest_key(*next(iter(value.items())), groups, config)
        if "trainer.args." in hint:
            return hint
    paths = [*_paths(config)]
    meaning = meaning_of(name)
    if meaning in paths and meaning not in groups:
        return f"a similar key exists: {meaning}"
    matches = [path for path in paths if path.rpartition(".")[2] == name]
    if not meaning and len(matches) == 1:
        return f"a similar key exists: {matches[0]}"
    return suggest_override(name, value, groups, "key")


def suggest_argument(key: str, name: str, value: object, parameters: Collection[str], groups: Groups) -> str:
    """Return the hint for an unknown argument of a node; empty if its name means and resembles nothing.

    >>> suggest_argument("trainer", "epochs", 3, ["args"], {})
    'a similar argument exists: trainer.args.num_train_epochs'
    >>> suggest_argument("dataset", "files", {}, ["max_samples"], {})
    'add dataset=local, which has this argument'
    >>> suggest_argument("hardware", "launch", {}, ["threads"], {})
    'add hardware=ddp, which has this argument'

    Args:
        key: Key of the node.
        name: The argument.
        value: Its value.
        parameters: Arguments that the node has.
        groups: Group -> names of its options.
    """
    meaning = "" if key.startswith("hydra.") else meaning_of(name)
    last = "" if meaning in groups else meaning.rpartition(".")[2]
    if last in parameters and key != "trainer.args":  # which also has arguments that the hardware sets
        return f"a similar argument exists: {key}.{last}"
    if meaning:
        is_of_option = option_of(meaning).partition("=")[0] == key
        has_option = is_of_option and meaning.removeprefix(f"{key}.").partition(".")[0] in parameters
        return suggest_override(name, value, groups, "argument", has_option)
    if close := nearest(name, parameters):
        return f"a similar argument exists: {key}.{close}"
    if key == "trainer" and (close := nearest(name, argument_names(TRAINING_ARGUMENTS))):
        return f"a similar argument exists: trainer.args.{close}"
    options = [option for option, path in _CLASSES.get(key, {}).items() if name in argument_names(path)]
    return f"add {key}={options[0]}, which has this argument" if options else ""


def suggest_override(name: str, value: object, groups: Groups, kind: str = "", has_option: bool = False) -> str:
    """Return a hint with the override that a name without its path means, here or in another tool; empty if none.

    >>> suggest_override("num-epochs", 3, {})
    'use trainer.args.num_train_epochs=3'
    >>> suggest_override("rank", 4, {})
    'use adapter=lora adapter.config.r=4'

    Args:
        name: The name: a key, or an option without its dashes.
        value: Its value; empty if it has none.
        groups: Group -> names of its options.
        kind: Kind of the name, `key` or `argument`; empty for an option.
        has_option: Whether the config already has the option of a group that the key needs.
    """
    name = name.replace("-", "_").lower()
    meaning = meaning_of(name) or (name if name in top_level_keys() else "")
    if not meaning and name in argument_names(TRAINING_ARGUMENTS):
        meaning = f"trainer.args.{name}"
    if not meaning or meaning.startswith("--"):
        return ""
    if meaning == "resume":
        return "use resume=auto\nto resume a particular run, use `hydratune resume RUN`"
    if meaning in groups and value and value not in groups[meaning]:
        return suggest_option(meaning, value, groups[meaning])
    option = "" if has_option else option_of(meaning)
    if kind and not option and meaning not in groups and "=" not in meaning:
        return f"a similar {kind} exists: {meaning}"
    override = meaning if "=" in meaning else f"{meaning}={_typed(value) or 'VALUE'}"
    return " ".join(["use", *(shlex.quote(text) for text in (option, override) if text)])


def _typed(value: object) -> str:
    """Return a value as it is typed; empty for a list or a mapping."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value) if isinstance(value, str | int | float) else ""


@functools.cache
def top_level_keys() -> list[str]:
    """Return the keys and groups of the shipped train.yaml."""
    shipped = yaml.safe_load((files("hydratune.conf") / "train.yaml").read_text(encoding="utf-8"))
    entries = [next(iter(entry)) for entry in shipped["defaults"] if isinstance(entry, dict)]
    groups = [group for group in entries if " " not in group and "/" not in group]
    return [key for key in (*groups, *shipped) if key not in ("defaults", "experiment", "hydra")]


def argument_names(path: str) -> Collection[str]:
    """Return the names of the arguments of a `_target_`."""
    found = signature(path)
    return found.parameters if found else ()


def _paths(node: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{parent}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{parent}{key}.")
