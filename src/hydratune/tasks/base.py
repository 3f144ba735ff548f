"""What a task is: the head, the preprocessing, the collator and the metrics that belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.errors import Mistake, did_you_mean, one_of

if TYPE_CHECKING:
    import torch
    from datasets import DatasetDict
    from transformers import EvalPrediction, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    """Data in the shape that the network takes.

    Args:
        splits: Rows of token ids; other columns are dropped by Trainer.
        head: Arguments of the network's config that the data decides, e.g. `num_labels`.
        truncated: Split -> how many texts were cut to fit the network's positions.
    """

    splits: DatasetDict
    head: Mapping[str, Any]
    truncated: Mapping[str, int]


@dataclass(kw_only=True)
class Task(ABC):
    """A kind of problem; one subclass and one yaml a task.

    Args:
        metrics: Names of the metrics to compute, of those that the task knows.
        objective: The metric that picks the best checkpoint, `eval_` and its name, or `eval_loss`.
        max_length: Cut texts to this many tokens; null for as many as the network has positions.
    """

    auto_model: ClassVar[str]  # the class of transformers that builds the network with its head
    columns: ClassVar[Mapping[str, bool]]  # column -> whether a dataset must have it
    known_metrics: ClassVar[tuple[str, ...]]

    metrics: list[str]
    objective: str = "eval_loss"
    max_length: int | None = None

    def objectives(self) -> list[str]:
        """What evaluation will report and `objective` may name."""
        return ["eval_loss", *(f"eval_{name}" for name in self.metrics)]

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        for name in self.metrics:
            if name not in self.known_metrics:
                fix = did_you_mean(name, self.known_metrics, f"Set task.metrics=[{self.known_metrics[0]}].")
                yield Mistake("metrics", one_of(self.known_metrics), repr(name), fix)
        if self.max_length is not None and self.max_length < 1:
            yield Mistake("max_length", "a number of tokens above 0 or null", repr(self.max_length), "Raise it.")

    def check_columns(self, columns: Mapping[str, str | None]) -> Iterator[Mistake]:
        """A mistake for each column that a dataset must name and does not, or names and the task lacks."""
        for name in columns:
            if name not in self.columns:
                fix = did_you_mean(name, self.columns, "Leave it out.")
                yield Mistake(f"columns.{name}", one_of(self.columns), repr(name), fix)
        for name, required in self.columns.items():
            if required and columns.get(name) is None:
                fix = f"Set dataset.columns.{name}=NAME."
                yield Mistake(f"columns.{name}", "the name of a column", "none", fix)

    @abstractmethod
    def prepare(
        self,
        splits: DatasetDict,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
        label_names: list[str] | None,
    ) -> Prepared:
        """Tokenised rows and the head that fits them.

        Args:
            splits: Rows under the task's column names.
            tokenizer: The checkpoint's.
            max_length: Tokens that the network can take; None for any number.
            label_names: What the dataset calls its labels, in the order of their ids; None where it does not say.
        """

    @abstractmethod
    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """A callable that makes one padded batch of rows."""

    @abstractmethod
    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """The least of a batch's logits that the metrics need, so that evaluation never holds them all."""

    @abstractmethod
    def compute_metrics(self, prediction: EvalPrediction, head: Mapping[str, Any]) -> dict[str, float]:
        """Metric name -> value over a whole split; `prediction.predictions` comes from `reduce_logits`.

        Args:
            prediction: What the network said, and the labels.
            head: That of `Prepared`.
        """

    @abstractmethod
    def decode(self, predictions: Any, head: Mapping[str, Any]) -> list[Any]:
        """Predictions as a user reads them, one a row, ready for JSON."""
