"""Base of tasks that predict tokens: suitable models, and scores that do not depend on the batch size."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.tasks.base import EvalSplit, Task
from hydratune.tasks.metrics.metric import error, share
from hydratune.tasks.tokenize import IGNORED, Batch
from hydratune.utils.errors import ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import EvalPrediction, PretrainedConfig, PreTrainedModel

UNDECODED = "a language model has a prediction for each token, and no rows to resample"
PERPLEXITY = error("perplexity", low=1)  # per token
TOKEN_ACCURACY = share("accuracy")  # of the most probable token
PART = 1024  # tokens whose logits are in float32 at the same time


def token_scores(logits: Any, labels: torch.Tensor, shift: bool) -> torch.Tensor:
    """Return (batch, 3) float32: each row's sum of negative log likelihoods in nats, counted tokens, right tokens.

    Trainer's own loss is a mean of batch means, which gives short rows a higher weight. Each row is scored in parts,
    so that only the logits of one part are in float32.

    Args:
        logits: (batch, seq, vocabulary); the sequence is longer if an adapter puts its own prompt before it.
        labels: (batch, seq) int64.
        shift: Whether the logits at a position are those of the next token.
    """
    import torch

    scores = logits[0] if isinstance(logits, tuple) else logits
    rows = []
    for row, row_labels in zip(scores[:, -labels.shape[1] :], labels, strict=True):
        row_logits, targets = (row[:-1], row_labels[1:]) if shift else (row, row_labels)
        parts = [_part_scores(*part) for part in zip(row_logits.split(PART), targets.split(PART), strict=True)]
        rows.append(torch.stack(parts).sum(dim=0))
    return torch.stack(rows)


def _part_scores(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the scores of one part: (seq, vocabulary), (seq,) -> (3,)."""
    import torch

    logits, targets = logits[targets != IGNORED].float(), targets[targets != IGNORED]
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return torch.stack([loss, loss.new_tensor(len(targets)), (logits.argmax(-1) == targets).sum().float()])


def mean_scores(totals: Any) -> dict[str, float]:
    """Return `perplexity`, `accuracy`, and `nats` per token over the rows of `token_scores`."""
    loss, count, correct = (float(total) for total in totals.astype("float64").sum(axis=0))
    nats = loss / count
    return {"perplexity": math.exp(nats) if nats < 700 else math.inf, "accuracy": correct / count, "nats": nats}


@dataclass(kw_only=True)
class CausalTask(Task):
    """Base class of tasks whose model predicts each token from those before it; predictions use greedy search.

    Args:
        max_new_tokens: Maximum new tokens of a prediction; fewer if the model has few positions.
    """

    auto_model: ClassVar[str] = "AutoModelForCausalLM"
    pipeline: ClassVar[str | None] = "text-generation"
    no_predictions_reason: ClassVar[str] = UNDECODED
    metric_inputs: ClassVar[tuple[str, ...]] = ()  # no rows are predicted in evaluation

    max_new_tokens: int = 64

    def check(self) -> Iterator[Problem]:
        """Also yield an error if no token may be generated."""
        yield from super().check()
        if self.max_new_tokens < 1:
            yield invalid_value("max_new_tokens", "an integer of at least 1", self.max_new_tokens)

    @abstractmethod
    def prompts(self, batch: Batch, processor: Any) -> list[list[int]]:
        """Return the tokens that the model continues, at least one per row."""

    @abstractmethod
    def ends(self, processor: Any) -> list[int]:
        """Return the tokens at which generation stops."""

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Return rows of `input_ids`; long ones are truncated at the start, to leave room for new tokens."""
        from datasets import Dataset

        self._tokenizer, self._ends = processor, self.ends(processor)
        self._room = min(self.max_new_tokens, max_length // 2) if max_length else self.max_new_tokens
        limit = max_length - self._room if max_length else None
        prompts = self.prompts(rows[:], processor)
        is_cut = [limit is not None and len(ids) > limit for ids in prompts]
        return Dataset.from_dict({"input_ids": [ids[-(limit or 0) :] for ids in prompts], "truncated": is_cut})

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads on the left, so that rows end with tokens: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        processor.padding_side = "left"
        return DataCollatorWithPadding(processor)

    def predict_batch(self, network: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (batch, new) generated token IDs."""
        stop_args = {"eos_token_id": self._ends or None, "pad_token_id": self._tokenizer.pad_token_id}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        generated = network.generate(**inputs, max_new_tokens=self._room, do_sample=False, num_beams=1, **stop_args)
        return generated[:, batch["input_ids"].shape[1] :]

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:  # noqa: ARG002
        """Yield the generated text of each row, up to its end token."""
        for row in predictions:
            ids = row.tolist()
            end = next((position for position, token in enumerate(ids) if token in self._ends), len(ids))
            yield {"prediction": self._tokenizer.decode(ids[:end], skip_special_tokens=True)}

    def check_network(self, config: PretrainedConfig) -> None:
        """Also raise ConfigError for a model that sees the token that it predicts."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as FILL_MASKS

        super().check_network(config)
        # The decoder of an encoder-decoder model, such as BART, is causal without further settings.
        is_decoder = getattr(config, "is_decoder", False) or config.is_encoder_decoder
        is_bidirectional = config.model_type in (*FILL_MASKS, "bert-generation")
        if config.model_type == "xlnet" or (is_bidirectional and not is_decoder):
            hints = ["choose a decoder-only model, e.g. model=gpt_tiny"]
            if is_bidirectional:
                hints += ["set task=masked_lm"] if "text" in self.columns else []
                hints.append("set model.config.is_decoder=true for causal attention")
            kind = "bidirectional encoder" if is_bidirectional else "bidirectional model"
            text = f"this task needs a decoder-only model, but {config.model_type} is a {kind}"
            raise ConfigError(Problem("model", text, "\n".join(hints)))

    def reduce_logits(self, logits: Any, labels: Any) -> torch.Tensor:
        """Reduce (batch, seq, vocabulary) to (batch, 3), see `token_scores`."""
        return token_scores(logits, labels, shift=True)

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:  # noqa: ARG002
        """Return no rows, since each token has its own prediction."""
        return ()

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return no metrics, since there are no rows."""
        return {}


def select_metrics(scores: Mapping[str, float], names: list[str]) -> dict[str, float]:
    """Return the scores that a config names, in its order."""
    return {name: scores[name] for name in names}
