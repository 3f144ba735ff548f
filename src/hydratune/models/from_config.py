"""Model with random weights, built from a config."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.models import code_guard
from hydratune.models.base import (
    Model,
    Network,
    attention,
    bos_eos_ids,
    check_fields,
    check_name,
    is_hub_id,
    load_tokenizer,
    only_errors,
    set_dropout,
    text_config,
)
from hydratune.utils import hub
from hydratune.utils.checkpoint_references import foreign_files
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, one_line, similar

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

BYTES = "bytes"
_COMMON_TYPES = "common model types: bert, gpt2, llama, t5, vit"


@dataclass(kw_only=True)
class FromConfig(Model):
    """Model that trains from scratch.

    Args:
        model_type: Model type of transformers, e.g. `gpt2`, `bert`, `vit`.
        config: Fields of the model's config, e.g. `n_layer: 4`. The vocabulary size and the special tokens come from
            the tokenizer.
        tokenizer: Hub ID or directory, or `bytes` for one token per byte, which is lossless; null for images.
        image_processor: Arguments of the model's image processor, e.g. `size: {height: 8, width: 8}`.
    """

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    image_processor: dict[str, Any] | None = None

    def check(self) -> Iterator[Problem]:
        """Yield errors of the base class, and errors for fields that name code or for a missing processor."""
        yield from super().check()
        yield from code_guard.fields(self.config)
        if self.tokenizer is None and self.image_processor is None:
            hint = f"set {KEY}=bytes, or to a Hub ID or a directory"
            yield Problem("tokenizer", f"{KEY} is required, or {NODE}image_processor for images", hint)
        elif self.tokenizer not in (None, BYTES):
            yield from check_name("tokenizer", str(self.tokenizer), file="tokenizer_config.json")

    def needs(self) -> dict[str, hub.Repository]:
        """Return the repositories that the Hub or its cache has to provide."""
        name = self.tokenizer
        return {"tokenizer": hub.Repository("models", name)} if name and name != BYTES and is_hub_id(name) else {}

    def load_config(self) -> PretrainedConfig:
        """Return the config of `model_type` with the fields of `config`."""
        from huggingface_hub.errors import StrictDataclassError
        from transformers import CONFIG_MAPPING, AutoConfig

        if self.model_type not in CONFIG_MAPPING:
            hint = similar("model type", self.model_type, CONFIG_MAPPING, _COMMON_TYPES, f"{KEY}=")
            raise ConfigError(Problem("model.model_type", f"unknown model type {self.model_type!r}", hint))
        defaults = AutoConfig.for_model(self.model_type)
        check_fields(defaults, self.config)
        try:
            config = AutoConfig.for_model(self.model_type, **self.config)
        except (StrictDataclassError, TypeError, ValueError) as error:
            text = f"{KEY} has invalid values for {self.model_type}: {one_line(error, 200)}"
            raise ConfigError(Problem("model.config", text)) from error
        if self.dropout is not None:
            set_dropout(config, self.dropout)
        return config

    def load_processor(self, kind: str, config: PretrainedConfig) -> Any:
        """Load the tokenizer, and set its size in the config; or create the image processor."""
        if kind == "image_processor":
            return self._make_image_processor(config)
        if self.tokenizer is None:
            hint = f"set {KEY}=bytes, or to a Hub ID or a directory"
            raise ConfigError(Problem("model.tokenizer", f"{KEY} is required, since the task reads text", hint))
        tokenizer = byte_tokenizer() if self.tokenizer == BYTES else load_tokenizer("model.tokenizer", self.tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        if config.is_encoder_decoder:
            start, end = bos_eos_ids(tokenizer)
            special |= {"decoder_start_token_id": start, "eos_token_id": end}
            if getattr(config, "forced_eos_token_id", None) is not None:  # the default is an ID of BART's tokenizer
                special["forced_eos_token_id"] = end
        for name, value in special.items():
            setattr(config, name, value)
        text = text_config(config)
        text.vocab_size, text.pad_token_id = len(tokenizer), tokenizer.pad_token_id
        return tokenizer

    def _make_image_processor(self, config: PretrainedConfig) -> Any:
        """Create the image processor of the model's class; transformers finds it by the files of a checkpoint."""
        from transformers import AutoImageProcessor
        from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

        with tempfile.TemporaryDirectory() as folder, only_errors():
            arguments_file = Path(folder) / "preprocessor_config.json"
            arguments_file.write_text(json.dumps(self.image_processor or {}))
            if reference := next(foreign_files(Path(folder)), None):
                text = f"{KEY} names a file or a repository: {reference.partition(': ')[2]}"
                raise ConfigError(Problem("model.image_processor", text, "remove it"))
            arguments_file.write_text("{}")
            config.save_pretrained(folder)
            try:
                processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
                self._check_image_arguments(processor)
                return type(processor).from_dict(self.image_processor or {})
            except ConfigError:
                raise
            except (OSError, TypeError, ValueError) as error:
                text = f"no image processor can be created for {self.model_type}: {one_line(error, 200)}"
                hint = f"set {KEY}.model_type=vit" if self.model_type not in IMAGE_PROCESSOR_MAPPING_NAMES else ""
                raise ConfigError(Problem("model", text, hint)) from error

    def _check_image_arguments(self, processor: Any) -> None:
        """Raise ConfigError for arguments that the class of an image processor does not have, e.g. names of code."""
        arguments = processor.valid_kwargs.__annotations__
        problems = []
        for name in self.image_processor or {}:
            if name not in arguments:
                hint = similar("argument", name, arguments, prefix="model.image_processor.")
                text = f"{type(processor).__name__} has no argument {name!r}"
                problems.append(Problem(f"model.image_processor.{name}", text, hint))
        if problems:
            raise ConfigError(*problems)

    def load_network(
        self,
        auto_model: str,
        config: PretrainedConfig,
        head: Mapping[str, Any],
        quantization: Any = None,  # noqa: ARG002 (an adapter in random weights is refused)
    ) -> Network:
        """Build a model with random weights and a head of class `auto_model`; call `set_seed` before."""
        import transformers

        for name, value in head.items():
            setattr(config, name, value)
        with attention(self.attn_implementation), only_errors():
            network = getattr(transformers, auto_model).from_config(
                config,
                dtype=None if self.dtype == "auto" else self.torch_dtype(),
                attn_implementation=self.attn_implementation,
                trust_remote_code=False,
            )
        return self.freeze_and_log(Network(network, tuple(name for name, _ in network.named_parameters())))


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Build a lossless tokenizer with a token for each of the 256 bytes, and three special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|bos|>", "<|eos|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    pad, bos, eos = special
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, pad_token=pad, bos_token=bos, eos_token=eos)
