"""Adapters of peft: few trainable parameters in a frozen model. A config names them under `adapter`.

The allowed classes are listed in `config/allowlist.py`; `conf/adapter/` has options for the usual ones.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.config import allowlist
from hydratune.config.configurable import Configurable
from hydratune.models.base import Network, only_errors
from hydratune.utils import hub
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, one_line

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

log = logging.getLogger(__name__)

_WEIGHTS = "adapter_model.safetensors"
# Fields of peft's configs that name a module to import, or a file that may be a pickle.
_FILE_FIELDS = (
    *("megatron_config", "megatron_core", "corda_config", "lora_ga_config", "prompt_tuning_init_state_dict_path"),
    *("tokenizer_name_or_path", "tokenizer_kwargs", "adapters"),
)


class NoAdapter(Configurable):
    """No adapter: every parameter that is not frozen trains."""

    @property
    def saves_whole(self) -> bool:
        """Return whether `save` writes a model that does not need another checkpoint."""
        return True

    def quantization(self) -> BitsAndBytesConfig | None:
        """Return how to quantize the weights of the model; None to leave them as they are."""
        return None

    def apply(self, network: Network) -> PreTrainedModel:
        """Return the model unchanged."""
        return network.module

    def save(self, module: PreTrainedModel, folder: Path) -> None:
        """Save the model."""
        module.save_pretrained(folder)


@dataclass(kw_only=True)
class Adapter(NoAdapter):
    """Adapter of peft in a frozen model. Newly initialized modules of the model, such as its head, train completely.

    Args:
        config: Config of peft, e.g. `peft.LoraConfig`.
        merge: Save the model with the adapter merged into its weights, as if all of it had been trained. Otherwise,
            save only the adapter, which needs the checkpoint that it was trained on.
        load_in_4bit: Load the frozen weights in 4 bits (QLoRA), with bitsandbytes.
    """

    config: Any
    merge: bool = False
    load_in_4bit: bool = False

    @property
    def saves_whole(self) -> bool:
        """Return whether the adapter is merged."""
        return self.merge

    def check(self) -> Iterator[Problem]:
        """Yield errors for peft fields that load code or files, a missing package, or incompatible options."""
        if isinstance(self.config, Mapping):
            yield from _file_fields(self.config)
        if self.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            hint = "pip install 'hydratune[qlora]'\nset adapter=lora to train without quantization"
            yield Problem("load_in_4bit", f"{KEY}=true needs the package bitsandbytes", hint)
        if self.load_in_4bit and self.merge:
            text = f"{KEY}=true needs {NODE}load_in_4bit=false, since adapters are not merged into 4-bit weights"
            yield Problem("merge", text, f"set {KEY}=false")

    def quantization(self) -> BitsAndBytesConfig | None:
        """Return the config of 4-bit quantization if the adapter requires it; None otherwise.

        Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, NeurIPS 2023.
        """
        if not self.load_in_4bit:
            return None
        import torch
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )

    def apply(self, network: Network) -> PreTrainedModel:
        """Return the model with the adapter in it.

        Raises:
            ConfigError: If peft does not know which layers of this kind of model to adapt. Also if the model trains
                from scratch, or if the adapter could not be attached to its checkpoint again.
        """
        from peft import get_peft_model, prepare_model_for_kbit_training

        _check_code(self.config)
        module = network.module
        if {name for name, _ in module.named_parameters()} <= {*network.new}:
            text = "an adapter needs a pretrained model, but this model trains from scratch"
            raise ConfigError(Problem("adapter", text, f"set {KEY}=none"))
        if not module.name_or_path and not self.merge:
            text = f"{KEY} must be true for a model of two checkpoints"
            hint = f"set {'adapter=lora ' if self.load_in_4bit else ''}{KEY}=true"
            raise ConfigError(Problem("adapter.merge", text, hint))
        if self.load_in_4bit:
            module = prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)
        self.config.modules_to_save = _new_modules(module, network.new) or None
        try:
            with warnings.catch_warnings():  # peft reports that it corrects fan_in_fan_out of GPT-2's layers
                warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
                adapted = get_peft_model(module, self.config)
        except (ValueError, re.error) as error:
            text, hint = f"peft rejects {KEY}: {one_line(error, 200)}", ""
            if "target" in str(error) or isinstance(error, re.error):
                text = f"{KEY} does not select the modules to adapt: {one_line(error, 200)}"
                hint = f"set {KEY}.target_modules=all-linear, or to a list of module names"
            raise ConfigError(Problem("adapter.config", text, hint)) from error
        if module.name_or_path and Path(module.name_or_path).is_dir():  # an absolute path works from any directory
            self.config.base_model_name_or_path = str(Path(module.name_or_path).resolve())
        self.config.revision = network.commit
        trainable = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
        kind = str(self.config.peft_type.value).lower()
        millions = trainable / 1e6, adapted.num_parameters() / 1e6
        log.info("adapter: %s, %.2fM of %.1fM parameters are trainable", kind, *millions)
        return adapted

    def save(self, module: Any, folder: Path) -> None:
        """Save the merged model, or the adapter with the config of the model, which contains the labels."""
        if self.merge:
            module.merge_and_unload().save_pretrained(folder)
            return
        base = module.get_base_model()
        base.config.architectures = [type(base).__name__]
        base.config.save_pretrained(folder)
        module.save_pretrained(folder)


def _file_fields(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield an error for each field of a peft config by which peft imports a module or reads a file."""
    for name in _FILE_FIELDS:
        if config.get(name) and (name, config[name]) != ("megatron_core", "megatron.core"):  # the default of peft
            text = f"{KEY} is not allowed: peft would import a module or read a file that it names"
            yield Problem(f"config.{name}", text, f"remove {KEY}")


def _check_code(config: Any) -> None:
    """Raise ConfigError for a peft config that names a module to import or a file to read."""
    values = {name: getattr(config, name, None) for name in _FILE_FIELDS}
    if problems := [problem.under("adapter") for problem in _file_fields(values)]:
        raise ConfigError(*problems)


def load(folder: str | Path) -> PreTrainedModel:
    """Load the model of a saved adapter, with its checkpoint, its head, and its label names: `load(run/model)`."""
    import transformers
    from peft import PeftConfig, PeftModel

    hub.check_checkpoint("adapter", str(folder))
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        adapter_config = PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError) as error:  # an unknown adapter type, or fields of another type
        raise ValueError(f"the installed peft cannot read the adapter in {folder}: {one_line(error)}") from error
    if problem := allowlist.check_target(
        f"{type(adapter_config).__module__}.{type(adapter_config).__name__}", "adapter.config"
    ):
        raise ConfigError(problem)
    _check_code(adapter_config)
    if Path(folder).is_dir() and not (Path(folder) / _WEIGHTS).is_file():  # peft would read a pickle
        raise ValueError(f"{folder} has no {_WEIGHTS}")
    name, revision = adapter_config.base_model_name_or_path, adapter_config.revision
    with hub.loading_checkpoint("adapter", str(name), revision):
        hub.check_no_adapter("adapter", str(name), revision)
        base_config = transformers.AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    quantization = getattr(config, "quantization_config", None)
    if quantization and not hasattr(base_config, "quantization_config"):
        del config.quantization_config  # it says how to quantize the checkpoint, not what is in it
        quantization = transformers.BitsAndBytesConfig.from_dict(quantization)
    with only_errors():  # warnings about the head are wrong: it comes with the adapter
        model_class: Any = getattr(transformers, config.architectures[0], None)
        if not _is_network(model_class):
            raise ValueError(f"{config.architectures[0]} is not a model class of transformers")
        options = {
            "use_safetensors": True,
            "revision": revision,
            "quantization_config": quantization,
            "ignore_mismatched_sizes": True,
        }
        base_model = model_class.from_pretrained(name, config=config, trust_remote_code=False, **options)
    adapted = PeftModel.from_pretrained(base_model, str(folder))
    return adapted.get_base_model() if quantization else adapted.merge_and_unload()


def _is_network(model_class: Any) -> bool:
    import transformers

    return inspect.isclass(model_class) and issubclass(model_class, transformers.PreTrainedModel)


def _new_modules(module: PreTrainedModel, new: tuple[str, ...]) -> list[str]:
    """Return the names of modules that are newly initialized as a whole, and not tied to a trained weight."""
    holders = {name.rpartition(".")[0] for name in new} - {""}
    new_modules = [
        holder
        for holder in sorted(holders)
        if all(f"{holder}.{name}" in new for name, _ in module.get_submodule(holder).named_parameters())
    ]
    return [name for name in new_modules if not any(name.startswith(f"{other}.") for other in new_modules)]
