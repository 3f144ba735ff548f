"""A few new weights beside frozen ones, through peft: what a config names under `adapter`."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.errors import ConfigError, Mistake, one_line
from hydratune.models.base import Network, quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

log = logging.getLogger(__name__)


class NoAdapter:
    """Every weight that is not frozen trains."""

    def quantize(self, config: PretrainedConfig) -> None:
        """Leaves the network's config as it is."""

    def apply(self, network: Network) -> PreTrainedModel:
        """The network as it is."""
        return network.module

    def save(self, module: PreTrainedModel, folder: Path) -> None:
        """Writes the network."""
        module.save_pretrained(folder)


@dataclass(kw_only=True)
class Adapter(NoAdapter):
    """An adapter of peft in a frozen network. What is new in the network, such as its head, trains as a whole.

    Args:
        config: A config of peft, e.g. `peft.LoraConfig`.
        merge: Save the network with the adapter in its weights, as if all of it had been trained; else the adapter
            alone, which needs the checkpoint it was made for.
        load_in_4bit: Hold the frozen weights in 4 bits (QLoRA), by bitsandbytes.
    """

    config: Any
    merge: bool = False
    load_in_4bit: bool = False

    def check(self) -> Iterator[Mistake]:
        """Whether what it needs is installed, and whether its options go together."""
        if self.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            fix = "pip install 'hydratune[qlora]', or set adapter=lora."
            yield Mistake("load_in_4bit", "the package bitsandbytes", "none", fix)
        if self.load_in_4bit and self.merge:
            yield Mistake(
                "merge", "false, since weights of 4 bits cannot take an adapter in", "true", "Set adapter.merge=false."
            )

    def quantize(self, config: PretrainedConfig) -> None:
        """Asks for weights of 4 bits where the adapter is to have them.

        Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, NeurIPS 2023.
        """
        if not self.load_in_4bit:
            return
        import torch
        from transformers import BitsAndBytesConfig

        config.quantization_config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )

    def apply(self, network: Network) -> PreTrainedModel:
        """The network with the adapter in it.

        Raises:
            ConfigError: Where peft does not know what to adapt in this kind of network, or nothing is trained yet.
        """
        from peft import get_peft_model, prepare_model_for_kbit_training

        module = network.module
        if {name for name, _ in module.named_parameters()} <= {*network.new}:
            fix = "Set adapter=none."
            raise ConfigError(Mistake("adapter", "none for a network from scratch", "an adapter", fix))
        if self.load_in_4bit:
            module = prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)
        self.config.modules_to_save = _new_modules(module, network.new) or None
        try:
            with warnings.catch_warnings():  # it says that it mends fan_in_fan_out of GPT-2's layers
                warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
                adapted = get_peft_model(module, self.config)
        except ValueError as error:
            fix = "Set adapter.config.target_modules=all-linear, or to names of layers."
            raise ConfigError(Mistake("adapter.config", "layers to adapt", one_line(error)[:300], fix)) from error
        trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
        kind = str(self.config.peft_type.value).lower()
        log.info("adapter: %s, %.2fM of %.1fM weights are trained", kind, trained / 1e6, adapted.num_parameters() / 1e6)
        return adapted

    def save(self, module: Any, folder: Path) -> None:
        """Writes the merged network; or the adapter, with the network's config, which knows the labels."""
        if self.merge:
            module.merge_and_unload().save_pretrained(folder)
            return
        base = module.get_base_model()
        base.config.architectures = [type(base).__name__]
        base.config.save_pretrained(folder)
        module.save_pretrained(folder)


def load(folder: str | Path) -> PreTrainedModel:
    """The network of a saved adapter with its checkpoint, its head and the names of its labels: `load(run/model)`."""
    import transformers
    from peft import PeftConfig, PeftModel

    config = transformers.AutoConfig.from_pretrained(folder)
    checkpoint = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    with quiet():  # the head comes with the adapter
        kind = getattr(transformers, config.architectures[0])
        base = kind.from_pretrained(checkpoint, config=config, ignore_mismatched_sizes=True)
    return PeftModel.from_pretrained(base, str(folder)).merge_and_unload()


def _new_modules(module: PreTrainedModel, new: tuple[str, ...]) -> list[str]:
    """The names of the modules of which nothing is trained yet; they have no weight that is tied to a trained one."""
    holders = {name.rpartition(".")[0] for name in new} - {""}
    found = [
        holder
        for holder in sorted(holders)
        if all(f"{holder}.{name}" in new for name, _ in module.get_submodule(holder).named_parameters())
    ]
    return [one for one in found if not any(one.startswith(f"{other}.") for other in found)]
