"""What every model does: a config, a processor, and a network under a task's head."""

from __future__ import annotations

import fnmatch
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hydratune import hub
from hydratune.errors import ConfigError, Mistake, did_you_mean, one_line

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_NO_LIMIT = 1_000_000  # tokens; transformers writes "no limit" as 1e30


class Network(NamedTuple):
    """A network as it was loaded, and the names of its weights that no checkpoint has trained."""

    module: PreTrainedModel
    new: tuple[str, ...]


@dataclass(kw_only=True)
class Model(ABC):
    """Where a network and its tokenizer come from.

    Args:
        dropout: Sets every dropout probability that the network's config has; null leaves them.
        freeze: Weights that are not trained: names, their beginnings or patterns, e.g. `embeddings`,
            `encoder.layer.[0-3]`.
        dtype: Of the weights; below float32 they take half the memory and train less exactly.
        attn_implementation: `sdpa`, `eager`, ...; null for transformers' choice.
    """

    dropout: float | None = None
    freeze: list[str] = field(default_factory=list)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        if self.dropout is not None and not 0 <= self.dropout < 1:
            yield Mistake(
                "dropout", "a probability from 0 to below 1, or null", repr(self.dropout), "Set model.dropout=0.1."
            )

    def needs(self) -> dict[str, hub.Repository]:
        """What the hub or its cache has to serve."""
        return {}

    @abstractmethod
    def load_config(self) -> PretrainedConfig:
        """The network's config with the user's changes."""

    @abstractmethod
    def load_processor(self, kind: str, config: PretrainedConfig) -> Any:
        """What turns rows into the network's inputs: a `tokenizer` or an `image_processor`."""

    @abstractmethod
    def load_network(self, auto_model: str, config: PretrainedConfig, head: Mapping[str, Any]) -> Network:
        """The network under a head of class `auto_model`, with `head` set in its config."""

    def finished(self, network: Network) -> Network:
        """The network with weights frozen, described in a line."""
        module, new = network
        frozen = freeze(module, self.freeze)
        log.info(
            "model: %s, %.1fM weights%s%s",
            type(module).__name__,
            module.num_parameters() / 1e6,
            f", {frozen / 1e6:.1f}M of them frozen" if frozen else "",
            _said_new(new, module),
        )
        return network

    def torch_dtype(self) -> torch.dtype:
        """The type of the weights."""
        import torch

        return getattr(torch, self.dtype)


_LISTED = 6  # names of new weights in a line


def _said_new(names: tuple[str, ...], module: PreTrainedModel) -> str:
    if len(names) == sum(1 for _ in module.parameters()):
        return "; all new and untrained"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; new and untrained: {', '.join(names[:_LISTED])}{more}" if names else ""


def freeze(module: PreTrainedModel, patterns: list[str]) -> int:
    """How many weights no longer train: those whose name, or its beginning, is one of the patterns.

    The name of the network below the head (`bert.`) may be left out.
    """
    prefix = f"{module.base_model_prefix}."
    short = {name: name.removeprefix(prefix) for name, _ in module.named_parameters()}
    mistakes, count = [], 0
    for pattern in patterns:
        found = {name for name, bare in short.items() if _fits(name, pattern) or _fits(bare, pattern)}
        if not found:
            parts = {bare.rpartition(".")[0] for bare in short.values()}
            fix = did_you_mean(pattern, parts, f"There is e.g. {next(iter(short.values()))}.")
            mistakes.append(Mistake("model.freeze", "names of weights", repr(pattern), fix))
        for name, weight in module.named_parameters():
            if name in found and weight.requires_grad:
                weight.requires_grad_(False)
                count += weight.numel()
    if not any(weight.requires_grad for weight in module.parameters()):
        mistakes.append(Mistake("model.freeze", "some weights that train", repr(patterns), "Freeze fewer."))
    if mistakes:
        raise ConfigError(*mistakes)
    return count


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")


# How configs of different families call their dropout probabilities.
_DROPOUT = ("dropout", "_pdrop", "drop_rate", "dropout_prob", "dropout_rate", "attn_pdrop")


def set_dropout(config: PretrainedConfig, probability: float) -> None:
    """Sets every field of a config that is a dropout probability."""
    fields = [name for name, value in config.to_dict().items() if name.endswith(_DROPOUT) and _is_probability(value)]
    if not fields:
        got = f"{config.model_type}, whose config has none"
        raise ConfigError(Mistake("model.dropout", "a network with dropout", got, "Set model.dropout=null."))
    for name in fields:
        setattr(config, name, probability)


def _is_probability(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def max_positions(config: PretrainedConfig, processor: Any) -> int | None:
    """The longest input in tokens that the network has positions for; None where it knows no limit."""
    limits = [getattr(processor, "model_max_length", _NO_LIMIT)]
    reads = getattr(config, "encoder", None)  # of an encoder-decoder
    for part in [config, reads] if reads else [config]:
        if positions := getattr(part, "max_position_embeddings", None):
            # RoBERTa and its kin number positions from the padding id + 1, so the first rows are unused.
            limits.append(positions - ((part.pad_token_id or 0) + 1 if _numbers_from_padding(part) else 0))
    limit = min(limits)
    return limit if limit < _NO_LIMIT else None


def _numbers_from_padding(config: Any) -> bool:
    kin = (
        "roberta",
        "camembert",
        "xlm-roberta",
        "xlm-roberta-xl",
        "longformer",
        "mpnet",
        "esm",
        "bertweet",
        "luke",
    )
    return config.model_type.startswith(kin)


def check_fit(tokenizer: Any, config: PretrainedConfig, key: str) -> None:
    """Raises ConfigError where a tokenizer is not the one that the weights were trained with.

    Many networks have some rows more than tokens, to round their number up; Qwen's have 400, Phi's 900.
    """
    rows, tokens, fix = config.vocab_size, len(tokenizer), "Use the tokenizer that was saved with these weights."
    if tokens > rows or rows - tokens > max(1024, rows // 20):
        got = f"a tokenizer of {tokens:,} tokens and a network of {rows:,}"
        raise ConfigError(Mistake(key, "a tokenizer that fits the network", got, fix))
    known = getattr(config, "pad_token_id", None)
    if None not in (known, tokenizer.pad_token_id) and known != tokenizer.pad_token_id:
        got = f"a tokenizer that pads with {tokenizer.pad_token_id} and a network that pads with {known}"
        raise ConfigError(Mistake(key, "a tokenizer that fits the network", got, fix))


def unknown_fields(config: PretrainedConfig, names: Mapping[str, Any]) -> ConfigError:
    """Fields of `model.config` that a config has not."""
    fields = config.to_dict()
    expected = f"a field of {type(config).__name__}"
    fixes = {name: did_you_mean(name, fields, "Leave it out.") for name in names}
    return ConfigError(*(Mistake(f"model.config.{n}", expected, repr(n), fix) for n, fix in fixes.items()))


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a repository of the hub, and no directory."""
    return not Path(name).is_dir() and name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def check_name(key: str, name: str, file: str = "config.json") -> Iterator[Mistake]:
    """A mistake where a name is neither a hub id nor a directory that holds what `save_pretrained` writes."""
    if Path(name).is_dir():
        if (Path(name) / "adapter_config.json").is_file():
            got = f"{name!r}, which holds an adapter alone"
            yield Mistake(key, "a whole checkpoint", got, "Save it with adapter.merge=true.")
        elif not (Path(name) / file).is_file():
            got = f"{name!r}, which has no {file}"
            yield Mistake(key, "a checkpoint", got, "Name the directory that save_pretrained wrote.")
    elif not is_hub_id(name):
        yield Mistake(key, "a hub id or a directory that exists", repr(name), f"Paths are read from {Path.cwd()}.")


def load_tokenizer(key: str, name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or directory, which `key` of the config names."""
    from transformers import AutoTokenizer

    with hub.loading(key, name):
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)


@contextmanager
def attention(implementation: str | None) -> Iterator[None]:
    """Turns what transformers raises for an attention kernel that is not there into a mistake."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if implementation is None or isinstance(error, ConfigError):
            raise
        got, fix = f"{implementation!r}: {one_line(error)[:300]}", "Set model.attn_implementation=sdpa."
        raise ConfigError(
            Mistake("model.attn_implementation", "a kernel that this network has here", got, fix)
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers' errors only: what it has to say of new weights, we say in one line."""
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity(hf_logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
