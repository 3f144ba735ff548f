"""Suggestions for mistyped keys and options: first other names of the same thing, then similar spellings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydratune.config.signatures import signature
from hydratune.utils.errors import MOST_OPTIONS, nearest, one_of
from hydratune.utils.file_formats import SUFFIXES

TRAINING_ARGUMENTS = "transformers.Seq2SeqTrainingArguments"
# Options of the group `dataset` for data of the user -> the class.
_SOURCES = {"local": "hydratune.data.LocalFiles", "hub": "hydratune.data.HubDataset"}

# Short and other names of keys -> last part of the key that they mean.
_KEYS = {
    **dict.fromkeys(("lr", "learningrate"), "learning_rate"),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_epochs"), "num_train_epochs"),
    **dict.fromkeys(("batch_size", "batchsize", "bs", "train_batch_size"), "per_device_train_batch_size"),
    **dict.fromkeys(("eval_batch_size", "test_batch_size"), "per_device_eval_batch_size"),
    **dict.fromkeys(("grad_accum", "gradient_accumulation", "accumulation_steps"), "gradient_accumulation_steps"),
    **dict.fromkeys(("warmup", "warmup_ratio"), "warmup_steps"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "lr_scheduler_type"),
    **dict.fromkeys(("optimizer", "optimiser"), "optim"),
    **dict.fromkeys(("gpus", "num_gpus", "devices", "num_processes"), "nproc_per_node"),
    **dict.fromkeys(("max_seq_length", "max_len", "seq_len"), "max_length"),
    **dict.fromkeys(("rank", "lora_rank", "lora_r"), "r"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("trials", "num_trials"), "n_trials"),
    **dict.fromkeys(("limit", "max_rows", "max_train_samples"), "max_samples"),
    "wd": "weight_decay",
    "alpha": "lora_alpha",
    "num_workers": "dataloader_num_workers",
    "resume_from_checkpoint": "resume",
    "train_file": "train",
    "model_name_or_path": "pretrained_model_name_or_path",
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
    alias = OPTIONS.get(group, {}).get(str(choice).lower())
    # `bert_tiny` is more likely a name of another tool or of the Hub than a typo of `vit_tiny`.
    match = alias if alias in options else nearest(choice, options, cutoff=_TYPO if group in _HUB else _SIMILAR)
    if match:
        return f"a similar option exists: {shlex.quote(f'{group}=[{match}]') if is_listed else f'{group}={match}'}"
    if group == "dataset" and isinstance(choice, str) and Path(choice).suffix.lower() in SUFFIXES:
        return f"for a file, use dataset=local {shlex.quote(f'dataset.files.train={choice}')}"
    command = f"hydratune configs {group}"
    hints = [f"choose {one_of(options)}" if len(options) <= MOST_OPTIONS else f"list the options with `{command}`"]
    if group in _HUB and isinstance(choice, str) and _HUB_ID.fullmatch(choice):
        overrides, short_id = _HUB[group]
        repo_id = choice if "/" in choice else short_id.format(choice)
        hints = [f"for a {group} on the Hub, use {overrides.format(repo_id)}", *hints]
    return "\n".join(hints)


def meant_key(name: str) -> str:
    """Return the last part of the key that a short or other name means, or the name itself."""
    return _KEYS.get(name.lower(), name)


def suggest_key(key: str, config: Mapping[str, Any]) -> str | None:
    """Return the key of the config that a key without its path means; None if there is none or more than one.

    >>> suggest_key("lr", {"seed": 1, "trainer": {"args": {"learning_rate": 1e-4}}})
    'trainer.args.learning_rate'
    """
    name = meant_key(key)
    matches = [path for path in _paths(config) if path.rpartition(".")[2] == name]
    return matches[0] if len(matches) == 1 else None


def suggest_argument(name: str, parameters: Iterable[str]) -> str | None:
    """Return the parameter that a name means or resembles; None if there is none."""
    parameters = list(parameters)
    alias = meant_key(name)
    return alias if alias in parameters else nearest(name, parameters)


def suggest_elsewhere(key: str, name: str) -> str:
    """Return a hint for an argument of a node that belongs to another one; empty if there is none.

    >>> suggest_elsewhere("trainer", "epochs")
    'a similar argument exists: trainer.args.num_train_epochs'
    >>> suggest_elsewhere("dataset", "files")
    'add dataset=local, which has this argument'
    """
    if key == "trainer" and (close := suggest_argument(name, argument_names(TRAINING_ARGUMENTS))):
        return f"a similar argument exists: trainer.args.{close}"
    sources = [option for option, path in _SOURCES.items() if key == "dataset" and name in argument_names(path)]
    return f"add dataset={sources[0]}, which has this argument" if sources else ""


def argument_names(path: str) -> Collection[str]:
    """Return the names of the arguments of a `_target_`."""
    found = signature(path)
    return found.parameters if found else ()


def _paths(node: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{parent}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{parent}{key}.")
