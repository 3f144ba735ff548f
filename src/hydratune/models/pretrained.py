"""Pretrained checkpoint that a run starts from: its config, its tokenizer, and its model with a task's head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydratune.models import code_guard
from hydratune.models.base import (
    Model,
    Network,
    attention,
    check_fields,
    check_fit,
    check_name,
    is_hub_id,
    load_tokenizer,
    only_errors,
    quantizing,
    set_dropout,
    text_config,
)
from hydratune.utils import hub
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

NAME_KEY = "model.pretrained_model_name_or_path"


@dataclass(kw_only=True)
class Pretrained(Model):
    """Checkpoint by Hub ID or directory; the keys are those of `from_pretrained`.

    Args:
        pretrained_model_name_or_path: Hub ID or directory.
        revision: Branch, tag, or commit on the Hub; null for the newest.
        tokenizer: Another Hub ID or directory for the tokenizer; null for the checkpoint's own.
        config: Fields of the model's config to change, e.g. `hidden_act: gelu`.
        use_safetensors: Refuse weights in pickled files, which can run code.
        trust_remote_code: Run the code of the Hub repository, at the commit that `revision` pins. This requires a
            permission that no config can give, see docs/security.md.
    """

    pretrained_model_name_or_path: str
    revision: str | None = None
    tokenizer: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    use_safetensors: bool = True
    trust_remote_code: bool = False

    def check(self) -> Iterator[Problem]:
        """Yield errors of the base class, errors for names that are not checkpoints, and errors for remote code."""
        yield from super().check()
        yield from check_name("pretrained_model_name_or_path", self.pretrained_model_name_or_path)
        yield from code_guard.fields(self.config)
        if self.trust_remote_code:
            yield from code_guard.remote(self.pretrained_model_name_or_path, self.revision)
        if self.tokenizer is not None:
            yield from check_name("tokenizer", self.tokenizer, file="tokenizer_config.json")

    def needs(self) -> dict[str, hub.Repository]:
        """Return the repositories that the Hub or its cache has to provide."""
        names = {"pretrained_model_name_or_path": self.pretrained_model_name_or_path, "tokenizer": self.tokenizer}
        return {key: hub.Repository("models", name) for key, name in names.items() if name and is_hub_id(name)}

    def load_config(self) -> PretrainedConfig:
        """Load the config of the model, and change the fields of `config`."""
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        try:
            with hub.loading_checkpoint(NAME_KEY, self.pretrained_model_name_or_path, self.revision):
                name, is_trusted = self.pretrained_model_name_or_path, self.trust_remote_code
                config = AutoConfig.from_pretrained(name, trust_remote_code=is_trusted, **self._source())
                if self.config:  # `from_pretrained` would take e.g. `proxies` among them as its own argument
                    check_fields(config, self.config)
                    config = AutoConfig.from_pretrained(
                        name, trust_remote_code=is_trusted, **self._source(), **self.config
                    )
        except StrictDataclassError as error:
            text = f"{KEY} has invalid values for {self.pretrained_model_name_or_path}: {one_line(error, 200)}"
            raise ConfigError(Problem("model.config", text)) from error
        if self.dropout is not None:
            set_dropout(config, self.dropout)
        return config

    def load_processor(self, kind: str, config: PretrainedConfig) -> Any:
        """Load the checkpoint's `tokenizer` or `image_processor`."""
        return self.load_tokenizer(config) if kind == "tokenizer" else self._load_image_processor()

    def load_tokenizer(self, config: PretrainedConfig) -> PreTrainedTokenizerBase:
        """Load the checkpoint's tokenizer with a padding token; raise ConfigError if it does not match the model."""
        if self.tokenizer is not None:
            key, tokenizer = "model.tokenizer", load_tokenizer("model.tokenizer", self.tokenizer)
        else:
            key, tokenizer = (
                NAME_KEY,
                load_tokenizer(NAME_KEY, self.pretrained_model_name_or_path, self.revision, self.trust_remote_code),
            )
        self.notes += check_fit(tokenizer, config, key)
        if tokenizer.pad_token is None:  # GPT-2 and similar models were trained without padding
            tokenizer.pad_token = tokenizer.eos_token
        for part in (config, text_config(config)):
            part.pad_token_id = tokenizer.pad_token_id
        return tokenizer

    def _load_image_processor(self) -> Any:
        from transformers import AutoImageProcessor

        with (
            hub.loading_checkpoint(NAME_KEY, self.pretrained_model_name_or_path, self.revision),
            only_errors(),
        ):
            return AutoImageProcessor.from_pretrained(
                self.pretrained_model_name_or_path, trust_remote_code=self.trust_remote_code, **self._source()
            )

    def load_network(
        self, auto_model: str, config: PretrainedConfig, head: Mapping[str, Any], quantization: Any = None
    ) -> Network:
        """Load the model with a head of class `auto_model`, newly initialized if the checkpoint's does not fit.

        Raises:
            ConfigError: If weights below the head have other shapes than the config requires.
        """
        for name, value in head.items():
            setattr(config, name, value)
        path, options = self.pretrained_model_name_or_path, {}
        with (
            hub.loading_checkpoint(NAME_KEY, path, self.revision),
            quantizing(quantization),
            attention(self.attn_implementation),
            only_errors(),
        ):
            if quantization is not None:
                quantization.llm_int8_skip_modules = self._whole(auto_model, config)
                options = {"quantization_config": quantization}
            network, loading_info = self._load(auto_model, config, **options)
        reshaped = {name: shapes for name, *shapes in sorted(loading_info["mismatched_keys"])}
        for name, (checkpoint_shape, config_shape) in reshaped.items():
            if name.startswith(f"{network.base_model_prefix}."):
                shapes = f"{tuple(checkpoint_shape)} in the checkpoint to {tuple(config_shape)}"
                hint = f"remove from {KEY} the fields that change sizes"
                raise ConfigError(Problem("model.config", f"{KEY} changes the shape of {name} from {shapes}", hint))
        commit = hub.commit(path, self.revision) if is_hub_id(path) else None
        return self.freeze_and_log(Network(network, tuple(sorted({*loading_info["missing_keys"], *reshaped})), commit))

    def _load(
        self, auto_model: str, config: PretrainedConfig, **options: Any
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """Load the model; return it with the weights that the checkpoint lacks or has in another shape."""
        import transformers

        hub.check_no_adapter(NAME_KEY, self.pretrained_model_name_or_path, self.revision)
        return getattr(transformers, auto_model).from_pretrained(
            self.pretrained_model_name_or_path,
            config=config,
            trust_remote_code=self.trust_remote_code,
            **self._source(),
            use_safetensors=self.use_safetensors,
            attn_implementation=self.attn_implementation,
            dtype=self.torch_dtype(),
            ignore_mismatched_sizes=True,  # needed for a head with other labels; other sizes are refused
            output_loading_info=True,
            **options,
        )

    def _source(self) -> dict[str, Any]:
        """Return arguments of `from_pretrained`: the commit, also of its code; code of another repository never runs.

        Raises:
            ConfigError: If code is requested that is not allowed.
        """
        if self.trust_remote_code and (
            errors := [*code_guard.remote(self.pretrained_model_name_or_path, self.revision)]
        ):
            raise ConfigError(*(problem.under("model") for problem in errors))
        pinned = {"code_revision": self.revision} if self.trust_remote_code else {}
        return {"revision": self.revision, **pinned}

    def _whole(self, auto_model: str, config: PretrainedConfig) -> list[str] | None:
        """Return the modules not to quantize, since they are new and train; None for transformers' own choice."""
        outline, loading_info = self._load(auto_model, config, device_map="meta")
        new = {*loading_info["missing_keys"], *(name for name, *_ in loading_info["mismatched_keys"])}
        if not new:
            return None
        output = [name for name, module in outline.named_modules() if module is outline.get_output_embeddings()]
        return sorted({name.rpartition(".")[0] for name in new} | {*output})
