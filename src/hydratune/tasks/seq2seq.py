"""Sequence to sequence: generate a text from a text, e.g. a summary or a translation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.columns import Column
from hydratune.models.base import bos_eos_ids
from hydratune.tasks.base import EncodedData, EvalSplit, Task
from hydratune.tasks.metrics.generation import BLEU_SCORE, CORPUS, GENERATION, MEANS, TOKENIZER, over_corpus, unsuited
from hydratune.tasks.metrics.metric import Metric
from hydratune.tasks.metrics.references import texts_of
from hydratune.tasks.tokenize import Batch, cut, encode_splits, say_truncated, truncated
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Seq2Seq(Task):
    """Sequence to sequence on columns `source` and `target`, a text or a list of references. Evaluation generates.

    Training and the loss use the first of several references. The metrics use all of them: BLEU and chrF as in
    sacreBLEU, ROUGE by the best F-measure, and an exact match with any reference.

    Args:
        prefix: Text before each source, e.g. `summarize: ` for T5.
        max_target_length: Maximum tokens of a target, which is truncated, and of generated texts.
        num_beams: Beams of the search; 1 means greedy search.
        bleu_tokenizer: Tokenizer of sacreBLEU; `zh` or `char` for scripts without spaces between words.

    Example:
        >>> [problem.key for problem in Seq2Seq(num_beams=0).check()]
        ['num_beams']
    """

    auto_model: ClassVar[str] = "AutoModelForSeq2SeqLM"
    columns: ClassVar[Mapping[str, Column]] = {"source": Column("text"), "target": Column("references", target=True)}
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    known_metrics: ClassVar[tuple[Metric, ...]] = GENERATION
    streams: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["rougeL"])
    objective: str = "eval_rougeL"
    prefix: str = ""
    max_target_length: int = 128
    num_beams: int = 1
    bleu_tokenizer: Literal["13a", "intl", "zh", "char"] = "13a"

    def check(self) -> Iterator[Problem]:
        """Also yield errors of numbers that are out of range."""
        yield from super().check()
        for name, lowest in (("max_target_length", 2), ("num_beams", 1)):
            if getattr(self, name) < lowest:
                yield invalid_value(name, f"an integer of at least {lowest}", getattr(self, name))

    def arguments(self, objective: str) -> dict[str, Any]:
        """Also enable generation in evaluation."""
        return super().arguments(objective) | {
            "predict_with_generate": True,
            "generation_max_length": self.max_target_length,
            "generation_num_beams": self.num_beams,
        }

    def check_network(self, config: PretrainedConfig) -> None:
        """Also raise ConfigError if the model has too few positions for the targets."""
        super().check_network(config)
        decoder_config = getattr(config, "decoder", None) or config
        names = ("max_decoder_position_embeddings", "max_position_embeddings")
        limit = next((value for name in names if (value := getattr(decoder_config, name, None))), None)
        if limit and self.max_target_length > limit:
            text = f"{KEY}={self.max_target_length} is more than the {limit} positions of the model"
            raise ConfigError(Problem("task.max_target_length", text, f"set {KEY}={limit}"))

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """Return the token IDs of the sources."""
        sources = [f"{self.prefix}{text}" for text in batch["source"]]
        encoded = processor(sources, **cut(max_length))
        return {**encoded, "truncated": truncated(processor, encoded, sources)}

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Return rows of `input_ids`."""
        self._tokenizer = processor
        return super().prepare_inputs(rows, processor, max_length)

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> EncodedData:
        """Return rows of `input_ids` and `labels`, with the texts for `predictions_with_labels`."""
        self._tokenizer = processor
        # A model that never sees an end token never learns to stop, and some tokenizers do not add one.
        end_token = bos_eos_ids(processor)[1]
        end_tokens = [] if end_token is None or end_token in processor(text_target="a")["input_ids"] else [end_token]

        def encode(batch: Batch) -> dict[str, Any]:
            encoded = self.encode(batch, processor, max_length)
            first_texts = [texts_of(reference)[0] for reference in batch["target"]]
            targets = processor(text_target=first_texts, **cut(self.max_target_length - len(end_tokens)))
            is_cut = zip(encoded["truncated"], truncated(processor, targets, first_texts), strict=True)
            return {
                **encoded,
                "labels": [[*ids, *end_tokens] for ids in targets["input_ids"]],
                "target": batch["target"],
                "truncated": [any(flags) for flags in is_cut],
            }

        key = {
            "task": "seq2seq/3",
            "max_length": max_length,
            "max_target_length": self.max_target_length,
            "prefix": self.prefix,
        }
        rows, messages = say_truncated(encode_splits(splits, encode, processor, key), max_length, "sources or targets")
        return EncodedData(rows, {}, [*messages, *self.warnings(splits)])

    def warnings(self, splits: DatasetDict) -> Iterator[str]:
        """Yield warnings about texts without spaces, in which BLEU would take whole sentences for words."""
        if BLEU_SCORE.name not in self.metrics or self.bleu_tokenizer in ("zh", "char"):
            return
        for split in sorted({*splits} - {"train"}):
            if (share := unsuited(splits[split]["target"])) > 0.1:
                yield (
                    f"{share:.0%} of the targets of {split} are in scripts without spaces between words, for which "
                    f"bleu with the tokenizer {self.bleu_tokenizer} is meaningless: set task.bleu_tokenizer=zh or char"
                )

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest source and target: `input_ids`, `labels` (batch, seq) int64."""
        from transformers import DataCollatorForSeq2Seq

        return DataCollatorForSeq2Seq(processor)

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest source: `input_ids` (batch, seq) int64."""
        return Task.collator(self, processor)

    def predict_batch(self, network: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> Any:
        """Return (batch, seq) generated IDs, by the search that evaluation uses."""
        return network.generate(**batch, max_length=self.max_target_length, num_beams=self.num_beams)

    def reduce_logits(self, logits: Any, labels: Any) -> Any:  # noqa: ARG002 (Trainer's call)
        """Return (batch, seq) generated IDs unchanged.

        Raises:
            ConfigError: If Trainer does not generate, since an output that depends on true words is not a prediction.
        """
        if isinstance(logits, tuple) or logits.is_floating_point():
            text = "evaluation must generate texts, but the Trainer of this config returns logits"
            hint = "remove trainer.args.predict_with_generate and trainer._target_ from your config"
            raise ConfigError(Problem("trainer", text, hint))
        return logits

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names."""
        return self.metrics_from_predictions(list(self.predictions_with_labels(prediction, evaluated)), ())

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:  # noqa: ARG002
        """Return the generated text of each row."""
        return ({"prediction": text} for text in self._texts(predictions))

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the target, or all references, and the generated text."""
        predicted_rows = self.format_predictions(prediction.predictions, evaluated)
        for target, predicted in zip(evaluated.rows["target"], predicted_rows, strict=True):
            yield {"label": target, **predicted}

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics that the config names."""
        references, predictions = ([row[key] for row in rows] for key in ("label", "prediction"))
        options: dict[str, Any] = {TOKENIZER: self.bleu_tokenizer}
        return self.scores(predictions=predictions, references=references, **options)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the sums of a row for the metrics that are a mean over texts."""
        mean_names = [metric.name for metric in MEANS if metric.name in self.metrics]
        mean_task = replace(self, metrics=mean_names, extra_metrics={})
        return {name: (value, 1.0) for name, value in mean_task.metrics_from_predictions([row], names).items()}

    def bootstrap_metric(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """Return a function that computes BLEU or chrF from counts per text; other metrics use the base class."""
        if metric not in [corpus_metric.name for corpus_metric in CORPUS]:
            return super().bootstrap_metric(metric, rows, names)
        references, predictions = ([row[key] for row in rows] for key in ("label", "prediction"))
        return over_corpus(metric, references, predictions, self.bleu_tokenizer)

    def _texts(self, predictions: Iterable[Any]) -> list[str]:
        padding = self._tokenizer.pad_token_id
        texts = self._tokenizer.batch_decode(
            [[i if i >= 0 else padding for i in row.tolist()] for row in predictions], skip_special_tokens=True
        )
        return [text.strip() for text in texts]
