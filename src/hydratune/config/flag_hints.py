"""Hints for options of other tools, such as `--epochs 3`: the overrides that mean the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from hydratune.config.suggestions import TRAINING_ARGUMENTS, argument_names, meant_key, suggest_option
from hydratune.config.validate import DECIDED, top_level_keys

# Option of other tools -> group whose option it names.
_GROUPS = {
    **dict.fromkeys(("model", "model_name", "model_id", "model_name_or_path", "base_model"), "model"),
    **dict.fromkeys(("data", "dataset", "dataset_name", "data_path", "train_file", "train_data"), "dataset"),
    "task": "task",
}
# Last part of a key, or option of other tools -> key.
_KEYS = {
    **dict.fromkeys(("test_file", "test_data"), "dataset.files.test"),
    **dict.fromkeys(("validation_file", "validation_data"), "dataset.files.validation"),
    "max_length": "task.max_length",
    "max_samples": "dataset.max_samples",
    "n_trials": "sweep.n_trials",
    "nproc_per_node": "hardware.nproc_per_node",
    "precision": "hardware.precision",
}


def suggest_override(flag: str, value: str, groups: Mapping[str, Sequence[str]]) -> str:
    """Return a hint with the override that an option of another tool means; empty if there is none.

    >>> suggest_override("num-epochs", "3", {})
    'use trainer.args.num_train_epochs=3'
    >>> suggest_override("model", "bert", {"model": ["bert"]})
    'use model=bert'

    Args:
        flag: The option without its dashes.
        value: Its value; empty if it has none.
        groups: Group -> names of its options.
    """
    name = flag.replace("-", "_").lower()
    if group := _GROUPS.get(name):
        is_unknown = value and value not in groups[group]
        return suggest_option(group, value, groups[group]) if is_unknown else f"use {group}={value or 'NAME'}"
    key, value = meant_key(name), shlex.quote(value or "VALUE")
    if key == "resume":
        return "use `hydratune resume RUN`"
    if (full_key := f"trainer.args.{key}") in DECIDED:
        return DECIDED[full_key].format(value)
    if key in top_level_keys():
        return f"use {key}={value}"
    if key in argument_names(TRAINING_ARGUMENTS):
        return f"use {full_key}={value}"
    return f"use {_KEYS[key]}={value}" if key in _KEYS else ""
