"""Base of all models: a config, a processor, and a model with a task's head."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hydratune.config.configurable import Configurable
from hydratune.models import code_guard
from hydratune.models.parameters import freeze
from hydratune.utils import hub
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, one_line, similar

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_NO_FIELDS = {"self", "args", "kwargs", "name_or_path", "transformers_version"}
_NO_LIMIT = 1_000_000  # tokens; transformers writes 1e30 for no limit


class Network(NamedTuple):
    """Model as it was loaded.

    Args:
        module: Model.
        new: Names of its newly initialized parameters.
        commit: Commit of the Hub repository that it came from; None for a directory.
    """

    module: PreTrainedModel
    new: tuple[str, ...]
    commit: str | None = None


class Checkpoint(NamedTuple):
    """Config of a model and its tokenizer or image processor, as a run uses them.

    Args:
        key: Key of the settings by which it was loaded.
        config: Config of the model; loading the model changes it.
        processor: Processor of the kind that the task needs.
        notes: Notes for the log.
    """

    key: str
    config: PretrainedConfig
    processor: Any
    notes: tuple[str, ...]


@dataclass(kw_only=True)
class Model(Configurable, ABC):
    """Source of a model and its tokenizer.

    Args:
        dropout: Value for every dropout probability in the model's config; null leaves them unchanged.
        freeze: Parameters that are not trained: names, prefixes of names, or patterns, e.g. `embeddings`,
            `encoder.layer.[0-3]`.
        dtype: Type of the weights. Types below float32 take half the memory and train less precisely. `auto` is the
            type of the checkpoint.
        attn_implementation: `sdpa`, `eager`, ...; null for transformers' choice.
    """

    dropout: float | None = None
    freeze: list[str] = field(default_factory=list)
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    attn_implementation: str | None = None
    notes: list[str] = field(default_factory=list, init=False, repr=False)  # for the log, from loading the processor

    def check(self) -> Iterator[Problem]:
        """Yield errors that can be detected before heavy imports."""
        if self.dropout is not None and not 0 <= self.dropout < 1:
            requirement = "null or a probability from 0 to below 1"
            yield invalid_value("dropout", requirement, repr(self.dropout), f"set {KEY}=0.1")
        yield from code_guard.kernel(self.attn_implementation)

    def needs(self) -> dict[str, hub.Repository]:
        """Return the repositories that the Hub or its cache has to provide."""
        return {}

    @abstractmethod
    def load_config(self) -> PretrainedConfig:
        """Load the config of the model, and apply the user's changes."""

    @abstractmethod
    def load_processor(self, kind: str, config: PretrainedConfig) -> Any:
        """Load the `tokenizer` or `image_processor` that turns rows into inputs of the model."""

    @abstractmethod
    def load_network(
        self, auto_model: str, config: PretrainedConfig, head: Mapping[str, Any], quantization: Any = None
    ) -> Network:
        """Load the model with a head of class `auto_model`, and set the fields of `head` in its config.

        Args:
            auto_model: Class of transformers, e.g. `AutoModelForSequenceClassification`.
            config: Config from `load_config`.
            head: Fields of the config that depend on the data.
            quantization: `BitsAndBytesConfig` for quantized weights, if an adapter requires it.
        """

    def outline(self, auto_model: str, config: PretrainedConfig) -> Network:
        """Build the architecture without storage for its parameters, to check names and sizes.

        Args:
            auto_model: Class of transformers, as for `load_network`.
            config: Config from `load_config`, after `load_processor`; it is not changed.

        Raises:
            ConfigError: If the values of the config do not fit together.
        """
        import copy

        import torch

        with attention(self.attn_implementation), only_errors(), torch.device("meta"), fitting(config):
            module = self._empty(auto_model, copy.deepcopy(config))
        prefix = f"{module.base_model_prefix}."
        new = [name for name, _ in module.named_parameters() if not name.startswith(prefix)]
        return Network(module, tuple(new))

    def _empty(self, auto_model: str, config: PretrainedConfig) -> PreTrainedModel:
        """Build the model of a config; inside `outline`, its parameters have no values."""
        import transformers

        return getattr(transformers, auto_model).from_config(
            config, attn_implementation=self.attn_implementation, trust_remote_code=False
        )

    def freeze_and_log(self, network: Network) -> Network:
        """Freeze parameters, log one line that describes the model, and return it."""
        module, new = network.module, network.new
        frozen = freeze(module, self.freeze)
        log.info(
            "model: %s, %.1fM parameters%s%s",
            type(module).__name__,
            module.num_parameters() / 1e6,
            f", {frozen / 1e6:.1f}M frozen" if frozen else "",
            _initialized(new, module),
        )
        return network

    def torch_dtype(self) -> torch.dtype | str:
        """Return the type of the weights, as `from_pretrained` takes it."""
        import torch

        return self.dtype if self.dtype == "auto" else getattr(torch, self.dtype)


_LISTED = 6  # maximum names of newly initialized parameters in a log line


def _initialized(names: tuple[str, ...], module: PreTrainedModel) -> str:
    if len(names) == sum(1 for _ in module.parameters()):
        return "; all newly initialized"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; newly initialized: {', '.join(names[:_LISTED])}{more}" if names else ""


# Suffixes of dropout fields in the configs of different model families.
_DROPOUT = ("dropout", "_pdrop", "drop_rate", "dropout_prob", "dropout_rate")


def set_dropout(config: PretrainedConfig, probability: float) -> None:
    """Set every dropout probability in a config and in the configs inside it.

    Raises:
        ConfigError: If the config has no dropout probability.
    """
    parts = [config, *(part for name in config.sub_configs if (part := getattr(config, name, None)))]
    fields = [
        (part, name)
        for part in parts
        for name, value in part.to_dict().items()
        if name.endswith(_DROPOUT) and _is_probability(value)
    ]
    if not fields:
        text = f"{KEY}={probability} has no effect: the config of {config.model_type} has no dropout"
        raise ConfigError(Problem("model.dropout", text, f"set {KEY}=null"))
    for part, name in fields:
        setattr(part, name, probability)


def _is_probability(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def text_config(config: PretrainedConfig) -> Any:
    """Return the config with the vocabulary; in a model of several parts, that of the part that writes text."""
    return config if hasattr(config, "vocab_size") else config.get_text_config(decoder=True)


def max_positions(config: PretrainedConfig, processor: Any) -> int | None:
    """Return the longest input in tokens that model and processor support; None if there is no limit."""
    limits = [getattr(processor, "model_max_length", _NO_LIMIT)]
    input_config = getattr(config, "encoder", None) or text_config(config)  # the encoder of an encoder-decoder
    for part in (config, input_config):
        if positions := getattr(part, "max_position_embeddings", None):
            # RoBERTa and similar models number positions from the padding ID + 1, so the first rows are unused.
            limits.append(positions - ((part.pad_token_id or 0) + 1 if _numbers_from_padding(part) else 0))
    limit = min(limits)
    return limit if limit < _NO_LIMIT else None


def _numbers_from_padding(config: Any) -> bool:
    model_types = (
        *("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "longformer", "mpnet"),
        *("esm", "bertweet", "luke"),
    )
    return config.model_type.startswith(model_types)


# Key by which a tokenizer was loaded -> hint if it does not match the model.
_OTHER_TOKENIZER = {
    "model.tokenizer": f"set {KEY}=null to use the checkpoint's own tokenizer",
    "model.encoder": "choose an encoder and a decoder with the same vocabulary",
}


def check_fit(tokenizer: Any, config: PretrainedConfig, key: str) -> list[str]:
    """Raise ConfigError if a tokenizer does not match the weights; return notes for the user.

    Many models have some more embedding rows than tokens, to round up their number. Qwen's have 400 more, and
    DeepSeek's 2,400 of 102,400. Another padding token shifts the positions of RoBERTa and similar models. Elsewhere it
    does no harm, and checkpoints such as multilingual E5 do not record theirs in the config.
    """
    rows = getattr(text_config(config), "vocab_size", None)
    if rows is None:  # CANINE reads characters
        return []
    tokens, hint = len(tokenizer), _OTHER_TOKENIZER.get(key, "set model.tokenizer to the tokenizer of this model")
    if tokens - _spare(tokenizer, rows) > rows or rows - tokens > max(1024, rows // 25):
        text = f"{KEY}: the tokenizer has {tokens:,} tokens, but the model has embeddings for {rows:,}"
        raise ConfigError(Problem(key, text, hint))
    config_pad_id, pad_id = getattr(config, "pad_token_id", None), tokenizer.pad_token_id
    if None in (config_pad_id, pad_id) or config_pad_id == pad_id:
        return []
    if _numbers_from_padding(config):
        text = f"{KEY}: the tokenizer pads with token {pad_id}, but the model with token {config_pad_id}"
        raise ConfigError(Problem(key, text, hint))
    return [f"pads with {pad_id}, as the tokenizer does; its config said {config_pad_id}"]


def _spare(tokenizer: Any, rows: int) -> int:
    """Count tokens beyond the model's rows that no text has, such as that for images in small Gemma 3 models."""
    special_tokens = {getattr(tokenizer, name) for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES}
    template = str(tokenizer.chat_template or "")
    added = [token for i, token in tokenizer.added_tokens_decoder.items() if i >= rows and token.special]
    return sum(token.content not in special_tokens and token.content not in template for token in added)


def check_fields(config: PretrainedConfig, names: Mapping[str, Any], key: str = "model.config") -> None:
    """Raise ConfigError unless all names are fields of a model's config class, and of the configs inside it.

    Other attributes, e.g. methods, and arguments of `from_pretrained` are not fields.
    """
    from transformers import PretrainedConfig

    allowed = _fields(config)
    if unknown := [name for name in names if name not in allowed]:
        hints = {name: similar("field", name, allowed, prefix=f"{key}.") for name in unknown}
        owner = type(config).__name__
        raise ConfigError(*(Problem(f"{key}.{n}", f"{owner} has no field {n!r}", hints[n]) for n in unknown))
    for name, value in names.items():
        part = getattr(config, name, None)
        if isinstance(part, PretrainedConfig) and isinstance(value, Mapping):
            check_fields(part, value, f"{key}.{name}")


def _fields(config: PretrainedConfig) -> set[str]:
    """Return the names that a config is saved with, those of its constructor, and other names for them."""
    kind = type(config)
    aliases = {name for name in dir(kind) if isinstance(value := getattr(kind, name), property) and value.fset}
    return {*config.to_dict(), *kind.attribute_map, *inspect.signature(kind.__init__).parameters, *aliases} - _NO_FIELDS


def is_hub_id(name: str) -> bool:
    """Return whether a name is that of a Hub repository, and not of a directory."""
    return not Path(name).is_dir() and name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def check_name(key: str, name: str, file: str = "config.json") -> Iterator[Problem]:
    """Yield an error if a name is neither a Hub ID nor a directory that `save_pretrained` wrote."""
    if Path(name).is_dir():
        if (Path(name) / "adapter_config.json").is_file():
            hint = "name the checkpoint that it was trained on\ntrain it with adapter.merge=true to save a whole model"
            yield Problem(key, f"{KEY}: the directory {name!r} contains only an adapter, not a whole model", hint)
        elif not (Path(name) / file).is_file():
            hint = "name a directory that save_pretrained wrote, or RUN/model"
            yield Problem(key, f"{KEY}: the directory {name!r} has no {file}", hint)
    elif not is_hub_id(name):
        hint = "" if name.startswith((".", "/")) else "a Hub ID has the form OWNER/NAME"
        hint = "write the full path instead of ~" if name.startswith("~") else hint
        yield Problem(key, f"{KEY}: no directory {name!r} (working directory: {Path.cwd()})", hint)


def load_tokenizer(
    key: str, name: str, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a Hub ID or directory, which `key` of the config names."""
    from transformers import AutoTokenizer

    pinned = {"code_revision": revision} if trust_remote_code else {}
    with hub.loading_checkpoint(key, name, revision):
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code, **pinned
        )
    return checked_tokenizer(tokenizer, key)


def checked_tokenizer(tokenizer: Any, key: str) -> PreTrainedTokenizerBase:
    """Return a tokenizer; raise ConfigError for an object of another kind, such as the two tokenizers of RAG."""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        text = f"the checkpoint of {KEY} has no single tokenizer, but a {type(tokenizer).__name__}"
        raise ConfigError(Problem(key, text))
    return tokenizer


def bos_eos_ids(tokenizer: Any) -> tuple[int | None, int | None]:
    """Return the tokens that start and end a generated text, under any name that a tokenizer has for them."""

    def first(*names: str) -> int | None:
        ids = (getattr(tokenizer, f"{name}_token_id") for name in names)
        return next((token_id for token_id in ids if token_id is not None), None)

    return first("cls", "bos", "pad"), first("sep", "eos")


@contextmanager
def attention(implementation: str | None) -> Iterator[None]:
    """Turn the error of transformers for an unavailable attention kernel into a ConfigError."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if implementation is None or isinstance(error, ConfigError):
            raise
        text = f"the model does not load with {KEY}={implementation}: {one_line(error, 200)}"
        raise ConfigError(Problem("model.attn_implementation", text, f"set {KEY}=null")) from error


@contextmanager
def fitting(config: PretrainedConfig) -> Iterator[None]:
    """Turn the errors of transformers for incompatible sizes into a ConfigError."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = one_line(error, 200)
        reason = reason if " " in reason else f"{type(error).__name__} {reason}".strip()  # e.g. only the key of a dict
        text = f"{config.model_type} cannot be built with these values of {KEY}: {reason}"
        raise ConfigError(Problem("model.config", text)) from error


@contextmanager
def quantizing(quantization: Any) -> Iterator[None]:
    """Turn the errors for quantization that does not work on this machine into a ConfigError."""
    try:
        yield
    except (ImportError, RuntimeError, ValueError) as error:
        if quantization is None or isinstance(error, ConfigError):
            raise
        text = f"{KEY}=true does not work on this machine: {one_line(error, 200)}"
        hint = "set adapter=lora to train without quantization"
        raise ConfigError(Problem("adapter.load_in_4bit", text, hint)) from error


@contextmanager
def only_errors() -> Iterator[None]:
    """Silence transformers except for errors; we log new weights in one line ourselves."""
    from transformers.utils import logging as hf_logging

    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity(hf_logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
