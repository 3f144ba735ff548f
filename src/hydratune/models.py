"""The checkpoint that a run starts from: its config, its tokenizer and its network under a task's head."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune import hub
from hydratune.errors import ConfigError, Mistake, did_you_mean

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

KEY = "model.pretrained_model_name_or_path"


@dataclass(kw_only=True)
class Pretrained:
    """A checkpoint by hub id or directory; the keys are those of `from_pretrained`.

    Args:
        pretrained_model_name_or_path: A hub id or a directory.
        revision: A branch, tag or commit of the hub; null for the newest.
        config: Fields of the network's config to change, e.g. `hidden_dropout_prob: 0.2`.
        use_safetensors: Refuse weights in pickled files, which can run code.
        attn_implementation: `sdpa`, `eager`, ...; null for transformers' choice.
    """

    pretrained_model_name_or_path: str
    revision: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    use_safetensors: bool = True
    attn_implementation: str | None = None

    def check(self) -> Iterator[Mistake]:
        """Whether what reads like a directory holds a checkpoint."""
        name = self.pretrained_model_name_or_path
        if Path(name).is_dir():
            if not (Path(name) / "config.json").is_file():
                got = f"{name!r}, which has no config.json"
                fix = "Name the directory that save_pretrained wrote."
                yield Mistake("pretrained_model_name_or_path", "a checkpoint", got, fix)
        elif not self._is_hub_id():
            fix = f"Paths are read from {Path.cwd()}."
            yield Mistake("pretrained_model_name_or_path", "a hub id or a directory that exists", repr(name), fix)

    def needs(self) -> dict[str, hub.Repository]:
        """What the hub or its cache has to serve."""
        name = self.pretrained_model_name_or_path
        return {"pretrained_model_name_or_path": hub.Repository("models", name)} if self._is_hub_id() else {}

    def _is_hub_id(self) -> bool:
        name = self.pretrained_model_name_or_path
        return not Path(name).is_dir() and name.count("/") <= 1 and not name.startswith((".", "/", "~"))

    def load_config(self) -> PretrainedConfig:
        """The network's config with the fields of `config` changed."""
        from transformers import AutoConfig

        with hub.loading(KEY, self.pretrained_model_name_or_path):
            config, unknown = AutoConfig.from_pretrained(
                self.pretrained_model_name_or_path,
                revision=self.revision,
                trust_remote_code=False,
                return_unused_kwargs=True,
                **self.config,
            )
        if unknown:
            fields = config.to_dict()
            expected = f"a field of {type(config).__name__}"
            fixes = {name: did_you_mean(name, fields, "Leave it out.") for name in unknown}
            raise ConfigError(*(Mistake(f"model.config.{n}", expected, repr(n), fix) for n, fix in fixes.items()))
        return config

    def load_tokenizer(self, config: PretrainedConfig) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer, with a token to pad with; refuses one whose ids the network has not."""
        from transformers import AutoTokenizer

        with hub.loading(KEY, self.pretrained_model_name_or_path):
            tokenizer = AutoTokenizer.from_pretrained(
                self.pretrained_model_name_or_path, revision=self.revision, trust_remote_code=False
            )
        if len(tokenizer) > config.vocab_size:
            got = f"a tokenizer of {len(tokenizer):,} tokens and a network of {config.vocab_size:,}"
            fix = "Use the tokenizer that was saved with these weights."
            raise ConfigError(Mistake(KEY, "a tokenizer that fits the network", got, fix))
        if tokenizer.pad_token is None:  # GPT-2 and its kin were trained without padding
            tokenizer.pad_token = tokenizer.eos_token
        config.pad_token_id = tokenizer.pad_token_id
        return tokenizer

    def load_network(self, auto_model: str, config: PretrainedConfig, head: Mapping[str, Any]) -> PreTrainedModel:
        """The weights in float32 under a head of class `auto_model`, which is new where the checkpoint's does not fit.

        Raises:
            ConfigError: Where weights below the head have other shapes than the config asks for.
        """
        import torch
        import transformers
        from transformers.utils import logging as hf_logging

        for name, value in head.items():
            setattr(config, name, value)
        # Errors only: the table of new weights is said in one line below.
        with hub.loading(KEY, self.pretrained_model_name_or_path), _verbosity(hf_logging.ERROR):
            network, loaded = getattr(transformers, auto_model).from_pretrained(
                self.pretrained_model_name_or_path,
                config=config,
                revision=self.revision,
                trust_remote_code=False,
                use_safetensors=self.use_safetensors,
                attn_implementation=self.attn_implementation,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a head for other labels; anything else is refused below
                output_loading_info=True,
            )
        reshaped = {name: shapes for name, *shapes in sorted(loaded["mismatched_keys"])}
        for name, (saved, wanted) in reshaped.items():
            if name.startswith(f"{network.base_model_prefix}."):
                got = f"{name} of {tuple(saved)} in the checkpoint"
                fix = "Leave model.config as the checkpoint has it."
                raise ConfigError(Mistake("model.config", f"weights of shape {tuple(wanted)}", got, fix))
        new = sorted({*loaded["missing_keys"], *reshaped})
        log.info(
            "model: %s, %.1fM weights%s",
            type(network).__name__,
            network.num_parameters() / 1e6,
            f"; new and untrained: {', '.join(new)}" if new else "",
        )
        return network


def max_positions(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest input in tokens that the network has positions for; None where it knows no limit."""
    limits = [tokenizer.model_max_length]
    if positions := getattr(config, "max_position_embeddings", None):
        # RoBERTa and its kin number positions from the padding id + 1, so the first rows of the table are unused.
        offset = (config.pad_token_id or 0) + 1 if _numbers_from_padding(config) else 0
        limits.append(positions - offset)
    limit = min(limits)
    return limit if limit < 1_000_000 else None  # transformers writes "no limit" as 1e30


def _numbers_from_padding(config: PretrainedConfig) -> bool:
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


@contextmanager
def _verbosity(level: int) -> Iterator[None]:
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity(level)
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
