"""Model card of a saved model, for anyone who finds its folder on disk or on the Hub."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.training.job import Job, resolved_yaml
from hydratune.training.results import split_metrics
from hydratune.training.run_params import FIRST
from hydratune.utils import hub, provenance
from hydratune.utils.escaping import escape_control, escape_markdown, markdown_code
from hydratune.utils.files import TRAINING_ARGS, write_json, write_text

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

CARD = "README.md"
# Params on the card besides the first ones of MLflow's table.
_EFFECTIVE = (
    "train_sampling_strategy",
    "effective_batch_size",
    "world_size",
    "device",
    "precision",
    "eval_precision",
    "attn_implementation",
    "max_length",
    "trainable_parameters",
)
_PLACE = re.compile(r"^folder = .*$", re.MULTILINE)  # the line of a card that names the location of the model


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

    def served(self, kind: str) -> list[str]:
        """Return the Hub IDs of `datasets`, or of the `models` whose weights were used."""
        return [repo.repo_id for key, repo in self.needs.items() if repo.kind == kind and key != "tokenizer"]

    def columns(self) -> dict[str, dict[str, float]]:
        """Return split -> metric -> value, for the splits that were evaluated."""
        metrics_by_split = {
            split: split_metrics(self.metrics, prefix) for split, prefix in (("validation", "eval"), ("test", "test"))
        }
        return {split: column for split, column in metrics_by_split.items() if column}


def write(folder: Path, trained: ModelCardInputs) -> None:
    """Write the model card, in place of any from a library, and the training arguments to a model's folder."""
    from huggingface_hub import ModelCard

    is_adapter = (folder / "adapter_config.json").is_file()
    pipeline = pipeline_name(trained.auto_model)
    sections = [
        f"# {escape_markdown(str(trained.cfg.name))}",
        _fenced("python", "\n".join(_loading(os.path.relpath(folder), trained, pipeline, is_adapter))),
        "## What was trained",
        _table(("", ""), _story(trained)),
        "## Metrics",
        _metrics(trained.columns()),
        "## Training arguments",
        _table(("", ""), list(_arguments(trained.params))),
        f"All of them, after hardware and task have set theirs, are in [{TRAINING_ARGS}]({TRAINING_ARGS}).",
        "## How",
        _fenced("bash", _private(provenance.command([*trained.job.flags], trained.job.overrides))),
        ", ".join(f"{package} {package_version}" for package, package_version in provenance.versions().items()),
        _fenced("yaml", _private(resolved_yaml(trained.cfg)).rstrip()),
        "## License",
        "None is stated here. Those of the checkpoint and of the data hold for what was made of them.",
    ]
    metadata = _metadata(trained, pipeline, is_adapter)
    card = ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")
    write_text(folder / CARD, escape_control(str(card)))
    write_json(folder / TRAINING_ARGS, _private(trained.training_args))


def point_to(folder: Path, repo_id: str) -> None:
    """Make the code on a folder's card load the model from the Hub."""
    path = folder / CARD
    if not path.is_file():  # the card is optional
        return
    write_text(path, _PLACE.sub(f"folder = {json.dumps(repo_id)}", path.read_text(encoding="utf-8"), count=1))


def pipeline_name(auto_model: str) -> str | None:
    """Return the transformers pipeline that serves models of a class; None if there is none."""
    from transformers.pipelines import SUPPORTED_TASKS

    classes_by_pipeline = {name: [kind.__name__ for kind in entry["pt"]] for name, entry in SUPPORTED_TASKS.items()}
    return next((name for name, classes in classes_by_pipeline.items() if auto_model in classes), None)


def _loading(folder: str, trained: ModelCardInputs, pipeline: str | None, is_adapter: bool) -> Iterator[str]:
    """Yield the lines of Python that load the model."""
    if is_adapter:
        yield "from hydratune.models import adapters"
    processor_class = "AutoTokenizer" if trained.processor == "tokenizer" else "AutoImageProcessor"
    imports = ["pipeline"] if pipeline else [processor_class] if is_adapter else [trained.auto_model, processor_class]
    yield f"from transformers import {', '.join(sorted(imports))}"
    yield f"folder = {json.dumps(folder)}"
    model = "adapters.load(folder)" if is_adapter else "folder"
    if pipeline:
        processor = f", {trained.processor}=folder" if is_adapter else ""
        yield f'model = pipeline("{pipeline}", model={model}{processor})'
    else:
        load_call = model if is_adapter else f"{trained.auto_model}.from_pretrained(folder)"
        yield f"model, {trained.processor} = {load_call}, {processor_class}.from_pretrained(folder)"


def _story(trained: ModelCardInputs) -> Iterator[tuple[str, str]]:
    cfg, choices = trained.cfg, trained.job.choices
    keys = [key for key in ("pretrained_model_name_or_path", "encoder", "decoder") if cfg.model.get(key)]
    start = " and ".join(_checkpoint(trained, str(cfg.model[key])) for key in keys) or "random weights"
    task, adapter, dataset = (escape_markdown(str(choices.get(key, ""))) for key in ("task", "adapter", "dataset"))
    yield "task", task
    yield "started from", start
    yield "adapter", adapter or "none"
    hub_ids = ", ".join(markdown_code(name) for name in trained.served("datasets"))
    yield "data", dataset + (f" ({hub_ids})" if hub_ids else "")
    yield "rows", ", ".join(f"{split} {rows}" for split, rows in trained.rows.items())
    yield "objective", f"{escape_markdown(str(cfg.objective))}, by which the weights were chosen among the checkpoints"
    yield "seed", str(cfg.seed)
    yield "precision", "{precision} in training, {eval_precision} in evaluation".format(**trained.precision)


def _arguments(params: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the params that describe how the steps were taken."""
    for name in (*FIRST, *_EFFECTIVE):
        if params.get(name, "null") != "null":
            yield name, escape_markdown(params[name])


def _checkpoint(trained: ModelCardInputs, name: str) -> str:
    """Return a Hub ID with its commit, or a directory."""
    revision = trained.cfg.model.get("revision")
    commit = hub.commit(name, revision) if name in trained.served("models") else None
    return markdown_code(_private(name)) + (f" at commit `{commit}`" if commit else "")


def _metrics(columns: Mapping[str, Mapping[str, float]]) -> str:
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [
        (escape_markdown(name), *(f"{c[name]:.4f}" if name in c else "" for c in columns.values())) for name in names
    ]
    return _table(("", *columns), rows)


def _metadata(trained: ModelCardInputs, pipeline: str | None, is_adapter: bool) -> ModelCardData:
    """Return the metadata of a card for the Hub, without a license, which we cannot know."""
    from huggingface_hub import ModelCardData

    return ModelCardData(
        model_name=str(provenance.redact(str(trained.cfg.name))),
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag=pipeline,
        base_model=trained.served("models") or None,
        datasets=trained.served("datasets") or None,
        tags=["hydratune"],
        eval_results=list(_results(trained, pipeline)) or None,
    )


def _results(trained: ModelCardInputs, pipeline: str | None) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    choice = str(trained.job.choices.get("dataset", "unknown"))
    task = str(trained.job.choices.get("task", "unknown")).replace("_", "-")
    served = trained.served("datasets")
    single = trained.cfg.dataset if len(served) == 1 else {}  # in a mixture, each dataset has its own
    for split, column in trained.columns().items():
        for name, value in column.items():
            if math.isfinite(value):
                yield EvalResult(
                    task_type=pipeline or task,
                    dataset_type=served[0] if len(served) == 1 else choice,
                    dataset_name=choice,
                    dataset_config=single.get("name"),
                    dataset_revision=single.get("revision"),
                    dataset_split=split,
                    metric_type=name,
                    metric_value=value,
                )


def _private(value: Any) -> Any:
    """Replace the user's working and home directories in all texts of a value, since a card may be published."""
    if isinstance(value, Mapping):
        return {name: _private(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_private(inner) for inner in value]
    return value.replace(str(Path.cwd()), ".").replace(str(Path.home()), "~") if isinstance(value, str) else value


def _fenced(language: str, text: str) -> str:
    """Format a block of code with a fence that is longer than those in the text."""
    fence = "`" * max(3, _longest_fence(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_fence(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
