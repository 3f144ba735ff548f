"""Encoder-decoder model from two checkpoints.

Rothe, Narayan & Severyn, Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, TACL 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.models.base import (
    Model,
    Network,
    attention,
    bos_eos_ids,
    check_fit,
    check_name,
    is_hub_id,
    load_tokenizer,
    only_errors,
    set_dropout,
)
from hydratune.utils import hub
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class EncoderDecoder(Model):
    """Encoder and decoder from two checkpoints with one vocabulary; the cross-attention is newly initialized.

    Args:
        encoder: Hub ID or directory.
        decoder: Hub ID or directory; null for the encoder's.
    """

    encoder: str
    decoder: str | None = None

    def check(self) -> Iterator[Problem]:
        """Yield errors of the base class, and errors for names that cannot be checkpoints."""
        yield from super().check()
        yield from check_name("encoder", self.encoder)
        if self.decoder is not None:
            yield from check_name("decoder", self.decoder)

    def needs(self) -> dict[str, hub.Repository]:
        """Return the repositories that the Hub or its cache has to provide."""
        names = {"encoder": self.encoder, "decoder": self.decoder}
        return {key: hub.Repository("models", name) for key, name in names.items() if name and is_hub_id(name)}

    def load_config(self) -> PretrainedConfig:
        """Load the configs of both sides as one config."""
        from transformers import AutoConfig, EncoderDecoderConfig

        sides = []
        for key, name in (("model.encoder", self.encoder), ("model.decoder", self.decoder or self.encoder)):
            with hub.loading_checkpoint(key, name):
                sides.append(AutoConfig.from_pretrained(name, trust_remote_code=False))
            if self.dropout is not None:
                set_dropout(sides[-1], self.dropout)
        try:
            return EncoderDecoderConfig.from_encoder_decoder_configs(*sides, tie_word_embeddings=False)
        except (TypeError, ValueError) as error:
            text = f"{KEY}.encoder and {KEY}.decoder cannot be combined: {one_line(error, 200)}"
            raise ConfigError(Problem("model", text, "choose two checkpoints of encoders, e.g. of BERT")) from error

    def load_processor(self, kind: str, config: PretrainedConfig) -> Any:  # noqa: ARG002 (texts only)
        """Load the encoder's tokenizer, and set the special tokens of the config.

        The decoder starts with the tokenizer's first special token and ends with its last.
        """
        tokenizer = load_tokenizer("model.encoder", self.encoder)
        for side in (config.encoder, config.decoder):
            self.notes += check_fit(tokenizer, side, "model.encoder")
        config.decoder_start_token_id, config.eos_token_id = bos_eos_ids(tokenizer)
        config.pad_token_id = tokenizer.pad_token_id
        return tokenizer

    def load_network(
        self,
        auto_model: str,  # noqa: ARG002 (there is one class of them)
        config: PretrainedConfig,
        head: Mapping[str, Any],  # noqa: ARG002 (no head)
        quantization: Any = None,  # noqa: ARG002 (an adapter has to be merged, which weights of 4 bits cannot be)
    ) -> Network:
        """Load the weights of both checkpoints, with newly initialized cross-attention."""
        from transformers import EncoderDecoderModel, GenerationConfig

        encoder, encoder_missing = self._load_side("AutoModel", "model.encoder", self.encoder, config.encoder)
        decoder_name = self.decoder or self.encoder
        decoder, decoder_missing = self._load_side(
            "AutoModelForCausalLM", "model.decoder", decoder_name, config.decoder
        )
        try:
            with only_errors():  # transformers reports for each side that its config is now the shared one
                network = EncoderDecoderModel(encoder=encoder, decoder=decoder, config=config)
        except ValueError as error:
            text = f"{KEY}: {decoder_name!r} cannot have cross-attention: {one_line(error, 200)}"
            raise ConfigError(Problem("model.decoder", text, "choose a checkpoint of BERT or RoBERTa")) from error
        # This warning appears in every run since 2021, and is about models that were trained before.
        warnings.filterwarnings("ignore", "Version v4.12.0 introduces a better way", FutureWarning)
        special = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
        network.generation_config = GenerationConfig(**{name: getattr(config, name) for name in special})
        new = [*(f"encoder.{name}" for name in encoder_missing), *(f"decoder.{name}" for name in decoder_missing)]
        new += [name for name, _ in network.named_parameters() if name.startswith("enc_to_dec_proj.")]
        return self.freeze_and_log(Network(network, tuple(sorted(new))))

    def _empty(self, auto_model: str, config: PretrainedConfig) -> PreTrainedModel:  # noqa: ARG002
        """Build both sides."""
        from transformers import EncoderDecoderModel

        return EncoderDecoderModel(config=config)

    def _load_side(self, auto_model: str, key: str, name: str, config: PretrainedConfig) -> tuple[Any, set[str]]:
        """Load one of the two models; return it with the names of the weights that its checkpoint lacks."""
        import transformers

        hub.check_no_adapter(key, name)
        with hub.loading_checkpoint(key, name), attention(self.attn_implementation), only_errors():
            network, loading_info = getattr(transformers, auto_model).from_pretrained(
                name,
                config=config,
                trust_remote_code=False,
                use_safetensors=True,
                attn_implementation=self.attn_implementation,
                dtype=self.torch_dtype(),
                output_loading_info=True,
            )
        return network, loading_info["missing_keys"]
