"""Networks in MLflow: logged models with their step and metrics, which `mlflow.transformers` loads and serves."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric
    from mlflow.models import ModelSignature

log = logging.getLogger(__name__)

MODEL_KEY = "hydratune.model"  # a tag that finds a model again when it is recorded twice
_REQUIREMENTS = ("mlflow", "transformers", "torch", "accelerate", "pillow")
# Pipeline -> the columns of what it answers.
_OUTPUTS: Mapping[str, Mapping[str | None, str]] = {
    "text-classification": {"label": "string", "score": "double"},
    "image-classification": {"label": "string", "score": "double"},
    "token-classification": {None: "string"},
    "fill-mask": {None: "string"},
    "text-generation": {None: "string"},
}
Datasets = Mapping[str, Sequence[str]]  # prefix of a metric -> name and digest of the rows it was measured on


class UnfitError(Exception):
    """A model that MLflow cannot take, however often it is tried."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A `ModelFacts` in plain values, as the journal has it.

    Args:
        staged: Whether the folder is there for this alone and goes when it was uploaded.
        metrics: Points of the run that were measured on these weights: name, value, ms since 1970, step.
        datasets: What the points were measured on.
        registered_name: Of the model in MLflow's registry; None for no registration.
        alias: Of the registered version.
    """

    folder: str
    name: str
    step: int
    metrics: Sequence[tuple[str, float, int, int]]
    pipeline: str | None
    example: Mapping[str, str]
    params: Mapping[str, str]
    datasets: Datasets = field(default_factory=dict)
    staged: bool = False
    registered_name: str | None = None
    alias: str | None = None


def record(client: MlflowClient, experiment_id: str, run_id: str, directory: Path, model: Recorded) -> None:
    """Uploads a model once, links it to its run, step and metrics, and registers it where that is asked.

    Raises:
        UnfitError: Where no second try would help.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    key = f"{run_id}/{model.name}"
    found = client.search_logged_models([experiment_id], f"tags.`{MODEL_KEY}` = '{key}'", max_results=1)
    if found:
        logged = found[0]
    else:
        tags = {MODEL_KEY: key}
        logged = client.create_logged_model(experiment_id, model.name, run_id, tags, dict(model.params))
    if logged.status != LoggedModelStatus.READY:
        with _packed(directory / model.folder, model, run_id, logged.model_id) as folder:
            client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if logged.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, model.step)])
    client.log_batch(run_id, metrics=[_metric(*point, logged.model_id, model.datasets) for point in model.metrics])
    if model.registered_name:
        _register(client, model.registered_name, model.alias, logged, run_id)
    if model.staged:
        shutil.rmtree(directory / model.folder, ignore_errors=True)
        with suppress(OSError):  # others wait there
            (directory / model.folder).parent.rmdir()


def _metric(name: str, value: float, at: int, step: int, model_id: str, datasets: Datasets) -> Metric:
    """A point of the run, now with its model and the rows it was measured on, so that models can be ranked."""
    from mlflow.entities import Metric

    dataset, digest = datasets.get(name.partition("/")[0], (None, None))
    return Metric(name, value, at, step, model_id=model_id, dataset_name=dataset, dataset_digest=digest)


@contextmanager
def _packed(folder: Path, model: Recorded, run_id: str, model_id: str) -> Iterator[Path]:
    """A folder in MLflow's format where a pipeline serves the model; else `folder` as it is."""
    if not folder.is_dir():
        raise UnfitError(f"{folder} is gone")
    if model.pipeline is None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary) / "model"
        try:
            _pack(folder, packed, model, run_id, model_id)
        except Exception as error:  # mlflow and transformers raise what they like
            raise UnfitError(str(error)) from error
        yield packed


def _pack(folder: Path, packed: Path, model: Recorded, run_id: str, model_id: str) -> None:
    """Writes safetensors, signature, input example and pinned requirements."""
    import mlflow.transformers
    from mlflow.models import Model
    from transformers import pipeline

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns that no model card is on the hub for our folder
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)  # of its own code
    example = list(model.example.values())
    mlflow.transformers.save_model(
        pipeline(model.pipeline, model=str(folder), device="cpu"),
        str(packed),
        mlflow_model=Model(artifact_path=model.name, model_uuid=model_id, run_id=run_id, model_id=model_id),
        signature=_signature(str(model.pipeline), model.example),
        input_example=(dict(model.example) if len(example) > 1 else example) or None,
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS],
    )


def _signature(pipeline: str, example: Mapping[str, str]) -> ModelSignature:
    """One nameless text in, or the columns of `example` where there are several."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    names = list(example) if len(example) > 1 else [None]
    inputs = Schema([ColSpec("string", name) for name in names])
    return ModelSignature(inputs, Schema([ColSpec(kind, name) for name, kind in _OUTPUTS[pipeline].items()]))


def _register(client: MlflowClient, name: str, alias: str | None, logged: LoggedModel, run_id: str) -> None:
    """A version of a registered model, which is made if need be; the one that this run made before is kept."""
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
