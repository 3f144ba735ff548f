"""Logged models in MLflow, with step and metrics, which `mlflow.transformers` loads and serves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.tracking.base import ModelInfo
from hydratune.tracking.client import artifact_repository
from hydratune.tracking.entries import Datasets, ModelEntry
from hydratune.utils.files import PathEscapeError, link_or_copy, make_directory, remove_tree, resolve_inside

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric
    from mlflow.models import ModelSignature

log = logging.getLogger(__name__)

MODEL_KEY = "hydratune.model"  # tag that identifies a model when it is recorded twice
STAGED = ".models_to_send"  # in a run directory, until they are uploaded
_TRAINING_STATE = ("optimizer", "scheduler", "scaler", "rng_state", "trainer_state", "training_args")
_REQUIREMENTS = ("mlflow", "transformers", "torch", "accelerate", "pillow")
# Pipeline -> the columns of its output.
_OUTPUTS: Mapping[str, Mapping[str | None, str]] = {
    "text-classification": {"label": "string", "score": "double"},
    "image-classification": {"label": "string", "score": "double"},
    "token-classification": {None: "string"},
    "fill-mask": {None: "string"},
    "text-generation": {None: "string"},
}


class ModelGoneError(Exception):
    """Error for a model that MLflow cannot take, even after retries."""


# --- in the run's own thread -----------------------------------------------------------------------------


def package_model(model: ModelInfo, target: Path, is_kept: bool) -> Path:
    """Return the folder to upload: `target` in MLflow's format if a pipeline serves the model, else the model's files.

    This loads the model, which `from_pretrained` cannot do in two threads simultaneously. So the run does it, and the
    uploader only uploads.

    Args:
        model: Model whose folder `save_pretrained` or Trainer has written.
        target: Folder to create for it.
        is_kept: Whether the model's own folder stays; Trainer removes old checkpoints.
    """
    remove_tree(target, ignore_errors=True)  # from a run that was interrupted here
    if model.pipeline:
        try:
            _pack(model, target)
        except Exception as error:  # mlflow and transformers raise exceptions of many kinds
            remove_tree(target, ignore_errors=True)
            log.warning(
                "tracking: %s is logged as plain files, because mlflow.transformers cannot save it: %s",
                model.name,
                error,
            )
        else:
            return target
    return model.folder if is_kept else _linked(model.folder, target)


def _pack(model: ModelInfo, target: Path) -> None:
    """Write safetensors, signature, input example, and pinned requirements."""
    import mlflow.transformers
    from transformers import pipeline

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns that the Hub has no model card for our folder
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)  # about its own code
    example: Any = dict(model.example)
    if not _has_columns(str(model.pipeline), model.example):
        example = list(example.values())
    make_directory(target.parent)
    mlflow.transformers.save_model(
        pipeline(model.pipeline, model=str(model.folder), device="cpu", trust_remote_code=False),
        str(target),
        signature=_signature(str(model.pipeline), model.example),
        input_example=example or None,
        model_config={"truncation": True} if model.pipeline == "text-classification" else None,
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS],
    )


def _signature(pipeline: str, example: Mapping[str, str]) -> ModelSignature:
    """Return a signature whose input is one unnamed text, or the columns of `example`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    names = list(example) if _has_columns(pipeline, example) else [None]
    inputs = Schema([ColSpec("string", name) for name in names])
    return ModelSignature(inputs, Schema([ColSpec(kind, name) for name, kind in _OUTPUTS[pipeline].items()]))


def _has_columns(pipeline: str, example: Mapping[str, str]) -> bool:
    """Return whether a served request names its columns.

    MLflow evaluates the unnamed texts of a text classifier as Python literals if all texts of a request are literals:
    `123` would reach the tokenizer as a number. It does not touch texts in a named column.
    """
    return len(example) > 1 or (pipeline == "text-classification" and bool(example))


def _linked(folder: Path, target: Path) -> Path:
    """Link the files of a checkpoint into `target`, without the training state; copy them where links fail."""
    make_directory(target)
    for file in folder.iterdir():
        if file.is_file() and not file.name.startswith(_TRAINING_STATE):
            link_or_copy(file, target / file.name)
    return target


# --- in the uploader's thread ----------------------------------------------------------------------------


def record(client: MlflowClient, uri: str, experiment_id: str, run_id: str, directory: Path, model: ModelEntry) -> None:
    """Upload a model once, link it to its run, step and metrics, and register it if that is requested.

    Raises:
        PathEscapeError: The store's artifact location, or the model's folder, is not allowed.
        ModelGoneError: The model's files are gone.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    folder, key = resolve_inside(directory, model.folder), f"{run_id}/{model.name}"
    if model.staged and folder.resolve().parent != directory.resolve() / STAGED:  # a journal may be someone else's
        raise PathEscapeError(f"{model.folder!r} is not a folder for uploads and would be removed")
    existing_models = client.search_logged_models([experiment_id], f"tags.`{MODEL_KEY}` = '{key}'", max_results=1)
    if existing_models:
        logged = existing_models[0]
    else:
        tags = {MODEL_KEY: key}
        logged = client.create_logged_model(experiment_id, model.name, run_id, tags, dict(model.params))
    if logged.status != LoggedModelStatus.READY:
        if not folder.is_dir():
            raise ModelGoneError(f"{folder} is gone")
        artifacts = artifact_repository(uri, logged.artifact_location)
        _sign(folder, run_id, logged.model_id)
        artifacts.log_artifacts(str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if logged.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, model.step)])
    client.log_batch(run_id, metrics=[_metric(*point, logged.model_id, model.datasets) for point in model.metrics])
    if model.registered_name:
        _register(client, model.registered_name, model.alias, logged, run_id)
    if model.staged:
        remove_tree(folder, ignore_errors=True)
        with suppress(OSError):  # other models wait there
            folder.parent.rmdir()


def _sign(folder: Path, run_id: str, model_id: str) -> None:
    """Write the IDs of the run and the model into a folder of MLflow's format."""
    from mlflow.models import Model

    path = folder / "MLmodel"
    if path.is_file():
        model = Model.load(str(path))
        model.run_id, model.model_id, model.model_uuid = run_id, model_id, model_id
        model.save(str(path))


def _metric(name: str, value: float, at: int, step: int, model_id: str, datasets: Datasets) -> Metric:
    """Return a point of the run with its model and the rows that it was measured on, so that models can be ranked."""
    from mlflow.entities import Metric

    dataset, digest = datasets.get(name.partition("/")[0], (None, None))
    return Metric(name, value, at, step, model_id=model_id, dataset_name=dataset, dataset_digest=digest)


def _register(client: MlflowClient, name: str, alias: str | None, logged: LoggedModel, run_id: str) -> None:
    """Create a version of a registered model, unless this run has created one before.

    The registered model is created if necessary.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    versions: list[Any] = list(client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"))
    if not versions:
        versions = [client.create_model_version(name, logged.artifact_location, run_id, model_id=logged.model_id)]
    if alias:
        client.set_registered_model_alias(name, alias, versions[0].version)
