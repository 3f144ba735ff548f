"""Our Trainer."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import Sampler
from transformers import PreTrainedModel, Seq2SeqTrainer
from transformers.trainer_utils import has_length

from hydratune.training.sampler import LengthGroupedSampler, lengths


class Trainer(Seq2SeqTrainer):
    """Hugging Face's `Seq2SeqTrainer`, which is `Trainer` where nothing is generated, with three differences.

    Rows that are grouped by length come in an order that a resumed run finds again. Evaluation comes in the order of
    the rows: upstream shuffles it where training groups rows by length, and then predictions could not be held
    against their rows. And weights are read back by `from_pretrained`: upstream reads the file as it is, and of a
    network whose weights have other names in files than in memory (ViT, for one) it would leave most as they were,
    with no more than a warning.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not has_length(rows):
            return super()._get_train_sampler(train_dataset)
        names = getattr(self.processing_class, "model_input_names", ["input_ids"])
        known = lengths(rows, names[0])
        if known is None:
            return super()._get_train_sampler(train_dataset)
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(known, together, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """None: rows come in the order of the dataset."""

    def _load_best_model(self) -> None:
        if self._reads_back():
            self._read_back(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._reads_back() and model in (None, self.model):
            self._read_back(resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _reads_back(self) -> bool:
        """Whether the weights lie in files of `save_pretrained`, not in adapters or shards of an engine."""
        return isinstance(self.model, PreTrainedModel) and not (self.is_deepspeed_enabled or self.is_fsdp_enabled)

    def _read_back(self, folder: str) -> None:
        saved, loaded = type(self.model).from_pretrained(
            folder, config=self.model.config, dtype=self.model.dtype, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted(loaded["missing_keys"]):
            raise RuntimeError(f"{folder} lacks weights: {missing}")
        self.model.load_state_dict(saved.state_dict())
