"""The checkpoint that a run starts from: its config, its tokenizer and its network under a task's head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydratune.models import remote_code
from hydratune.models.base import (
    Model,
    Network,
    attention,
    check_fit,
    check_name,
    is_hub_id,
    load_tokenizer,
    only_errors,
    quantizing,
    set_dropout,
    text_config,
    unknown_fields,
)
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError, Mistake, one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

KEY = "model.pretrained_model_name_or_path"


@dataclass(kw_only=True)
class Pretrained(Model):
    """A checkpoint by hub id or directory; the keys are those of `from_pretrained`.

    Args:
        pretrained_model_name_or_path: A hub id or a directory.
        revision: A branch, tag or commit of the hub; null for the newest.
        tokenizer: Another hub id or directory to take the tokenizer from; null for the checkpoint's own.
        config: Fields of the network's config to change, e.g. `hidden_act: gelu`.
        use_safetensors: Refuse weights in pickled files, which can run code.
        trust_remote_code: Run the code that the hub's repository brings, of the commit that `revision` pins; only with
            a permission that no config can give, see docs/security.md.
    """

    pretrained_model_name_or_path: str
    revision: str | None = None
    tokenizer: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    use_safetensors: bool = True
    trust_remote_code: bool = False

    def check(self) -> Iterator[Mistake]:
        """Adds: whether what reads like a directory holds a checkpoint."""
        yield from super().check()
        yield from check_name("pretrained_model_name_or_path", self.pretrained_model_name_or_path)
        yield from remote_code.fields(self.config)
        if self.trust_remote_code:
            yield from remote_code.remote(self.pretrained_model_name_or_path, self.revision)
        if self.tokenizer is not None:
            yield from check_name("tokenizer", self.tokenizer, file="tokenizer_config.json")

    def needs(self) -> dict[str, hub.Repository]:
        """What the hub or its cache has to serve."""
        names = {"pretrained_model_name_or_path": self.pretrained_model_name_or_path, "tokenizer": self.tokenizer}
        return {key: hub.Repository("models", name) for key, name in names.items() if name and is_hub_id(name)}

    def load_config(self) -> PretrainedConfig:
        """The network's config with the fields of `config` changed."""
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        try:
            with hub.loading(KEY, self.pretrained_model_name_or_path):
                config, unknown = AutoConfig.from_pretrained(
                    self.pretrained_model_name_or_path,
                    **self._source(),
                    return_unused_kwargs=True,
                    **self.config,
                )
        except StrictDataclassError as error:
            fix = "Change the fields below model.config."
            raise ConfigError(Mistake("model.config", "values of the fields' types", one_line(error), fix)) from error
        if unknown:
            raise unknown_fields(config, unknown)
        if self.dropout is not None:
            set_dropout(config, self.dropout)
        return config

    def load_processor(self, kind: str, config: PretrainedConfig) -> Any:
        """The checkpoint's `tokenizer` or `image_processor`."""
        return self.load_tokenizer(config) if kind == "tokenizer" else self._load_image_processor()

    def load_tokenizer(self, config: PretrainedConfig) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer, with a token to pad with; refuses one that does not fit the network."""
        if self.tokenizer is not None:
            key, tokenizer = "model.tokenizer", load_tokenizer("model.tokenizer", self.tokenizer)
        else:
            key, tokenizer = (
                KEY,
                load_tokenizer(KEY, self.pretrained_model_name_or_path, self.revision, self.trust_remote_code),
            )
        self.notes += check_fit(tokenizer, config, key)
        if tokenizer.pad_token is None:  # GPT-2 and its kin were trained without padding
            tokenizer.pad_token = tokenizer.eos_token
        for part in (config, text_config(config)):
            part.pad_token_id = tokenizer.pad_token_id
        return tokenizer

    def _load_image_processor(self) -> Any:
        from transformers import AutoImageProcessor

        with hub.loading(KEY, self.pretrained_model_name_or_path), only_errors():
            return AutoImageProcessor.from_pretrained(self.pretrained_model_name_or_path, **self._source())

    def load_network(
        self, auto_model: str, config: PretrainedConfig, head: Mapping[str, Any], quantization: Any = None
    ) -> Network:
        """The weights under a head of class `auto_model`, which is new where the checkpoint's does not fit.

        Raises:
            ConfigError: Where weights below the head have other shapes than the config asks for.
        """
        for name, value in head.items():
            setattr(config, name, value)
        path, options = self.pretrained_model_name_or_path, {}
        with hub.loading(KEY, path), quantizing(quantization), attention(self.attn_implementation), only_errors():
            if quantization is not None:
                quantization.llm_int8_skip_modules = self._whole(auto_model, config)
                options = {"quantization_config": quantization}
            network, loaded = self._load(auto_model, config, **options)
        reshaped = {name: shapes for name, *shapes in sorted(loaded["mismatched_keys"])}
        for name, (saved, wanted) in reshaped.items():
            if name.startswith(f"{network.base_model_prefix}."):
                got = f"{name} of {tuple(saved)} in the checkpoint"
                fix = "Leave model.config as the checkpoint has it."
                raise ConfigError(Mistake("model.config", f"weights of shape {tuple(wanted)}", got, fix))
        commit = hub.commit(path, self.revision) if is_hub_id(path) else None
        return self.finished(Network(network, tuple(sorted({*loaded["missing_keys"], *reshaped})), commit))

    def _load(
        self, auto_model: str, config: PretrainedConfig, **options: Any
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The network, and which of its weights the checkpoint has not or has in another shape."""
        import transformers

        return getattr(transformers, auto_model).from_pretrained(
            self.pretrained_model_name_or_path,
            config=config,
            **self._source(),
            use_safetensors=self.use_safetensors,
            attn_implementation=self.attn_implementation,
            dtype=self.torch_dtype(),
            ignore_mismatched_sizes=True,  # a head for other labels; anything else is refused
            output_loading_info=True,
            **options,
        )

    def _source(self) -> dict[str, Any]:
        """Arguments of `from_pretrained`: which commit, and whether its code may run; never code of another repository.

        Raises:
            ConfigError: Where code is asked for that is not allowed.
        """
        if self.trust_remote_code and (
            wrong := [*remote_code.remote(self.pretrained_model_name_or_path, self.revision)]
        ):
            raise ConfigError(*(mistake.under("model") for mistake in wrong))
        pinned = {"code_revision": self.revision} if self.trust_remote_code else {}
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, **pinned}

    def _whole(self, auto_model: str, config: PretrainedConfig) -> list[str] | None:
        """The modules that need all of their bits, since they are new and train; None for transformers' own choice."""
        outline, loaded = self._load(auto_model, config, device_map="meta")
        new = {*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])}
        if not new:
            return None
        output = [name for name, module in outline.named_modules() if module is outline.get_output_embeddings()]
        return sorted({name.rpartition(".")[0] for name in new} | {*output})
