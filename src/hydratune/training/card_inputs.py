"""Contents of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hydratune.training.baseline import Baseline
from hydratune.training.job import Job
from hydratune.training.results import split_metrics
from hydratune.utils import hub


@dataclass(frozen=True)
class ModelCardInputs:
    """Contents of a model card.

    Args:
        cfg: Config of the run.
        job: Job of the run.
        auto_model: Class of transformers that loaded the model.
        processor: `tokenizer` or `image_processor`.
        needs: Repositories that the Hub served: config key -> repository.
        rows: Split -> number of rows, as text.
        metrics: Metrics under Trainer's names.
        precision: Precision of training, `precision`, and that of evaluation, `eval_precision`.
        params: Params of the run, see `hydratune.training.run_params`.
        training_args: Effective training arguments, as plain values without secrets.
        labels: Names of the labels; empty for a task without labels.
        baseline: Scores of a constant prediction; None if there is none for the task.
    """

    cfg: DictConfig
    job: Job
    auto_model: str
    processor: str
    needs: Mapping[str, hub.Repository]
    rows: Mapping[str, str]
    metrics: Mapping[str, Any]
    precision: Mapping[str, str]
    params: Mapping[str, str]
    training_args: Mapping[str, Any]
    labels: Sequence[str] = ()
    baseline: Baseline | None = None

    def served(self, kind: str) -> list[str]:
        """Return the Hub IDs of `datasets`, or of the `models` whose weights were used."""
        return [repo.repo_id for key, repo in self.needs.items() if repo.kind == kind and key != "tokenizer"]

    def columns(self) -> dict[str, dict[str, float]]:
        """Return split -> metric -> value, for the splits that were evaluated."""
        metrics_by_split = {
            split: split_metrics(self.metrics, prefix) for split, prefix in (("validation", "eval"), ("test", "test"))
        }
        return {split: column for split, column in metrics_by_split.items() if column}


def private(value: Any) -> Any:
    """Replace the user's working and home directories in all texts of a value, since a card may be published."""
    if isinstance(value, Mapping):
        return {name: private(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [private(inner) for inner in value]
    return value.replace(str(Path.cwd()), ".").replace(str(Path.home()), "~") if isinstance(value, str) else value
