"""Model card of a saved model, for anyone who finds its folder on disk or on the Hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.config.optimization import NEUTRAL
from hydratune.training import card_text
from hydratune.training.baseline import Baseline
from hydratune.training.card_inputs import ModelCardInputs, private
from hydratune.training.job import resolved_yaml
from hydratune.training.run_params import FIRST
from hydratune.utils import hub, provenance
from hydratune.utils.escaping import escape_control, escape_markdown, markdown_code
from hydratune.utils.files import MODEL, TRAINING_ARGS, write_json, write_text
from hydratune.utils.short_forms import is_finite, number_text
from hydratune.utils.stored_files import read_regular

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
_FENCED_PYTHON = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_LOADING = re.compile(  # each line that `_loading` writes
    r"""from\ hydratune\.models\ import\ adapters
    | from\ transformers\ import\ \w+(,\ \w+)*
    | folder\ =\ "([^"\\]|\\["\\]|\\u[0-9a-f]{4})*"
    | model\ =\ pipeline\("[\w-]+",\ model=(folder|adapters\.load\(folder\))(,\ \w+=folder)?\)
    | model,\ \w+\ =\ (adapters\.load\(folder\)|\w+\.from_pretrained\(folder\)),\ \w+\.from_pretrained\(folder\)""",
    re.VERBOSE | re.ASCII,
)
_PLACE = re.compile(r"^folder = .*$", re.MULTILINE)  # the line of a card that names the location of the model


def write(folder: Path, trained: ModelCardInputs) -> None:
    """Write the model card, in place of any from a library, and the training arguments to a model's folder."""
    from huggingface_hub import ModelCard

    is_adapter = (folder / "adapter_config.json").is_file()
    pipeline = pipeline_name(trained.auto_model)
    sections = [
        f"# {escape_markdown(str(trained.cfg.name))}",
        _fenced("python", loading_code(folder, trained)),
        "## Intended use",
        card_text.intended_use(trained),
        "## Limitations",
        _bullets(card_text.limitations(trained)),
        "## What was trained",
        _table(("", ""), _story(trained)),
        "## Metrics",
        _metrics(trained.columns(), trained.baseline),
        _bullets(card_text.measured_on(trained)),
        "## Training arguments",
        _table(("", ""), list(_arguments(trained.params))),
        f"All of them, after hardware and task have set theirs, are in [{TRAINING_ARGS}]({TRAINING_ARGS}).",
        "## How",
        _fenced("bash", private(provenance.command([*trained.job.flags], trained.job.overrides))),
        ", ".join(f"{package} {package_version}" for package, package_version in provenance.versions().items()),
        _fenced("yaml", private(resolved_yaml(trained.cfg)).rstrip()),
        "## License",
        card_text.license_note(trained),
    ]
    metadata = _metadata(trained, pipeline, is_adapter)
    card = ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")
    write_text(folder / CARD, escape_control(str(card)))
    write_json(folder / TRAINING_ARGS, private(trained.training_args))


def loading_code(folder: Path, trained: ModelCardInputs) -> str:
    """Return the Python code that loads the model in a folder."""
    is_adapter = (folder / "adapter_config.json").is_file()
    return "\n".join(_loading(os.path.relpath(folder), trained, pipeline_name(trained.auto_model), is_adapter))


def point_to(folder: Path, repo_id: str) -> None:
    """Make the code on a folder's card load the model from the Hub."""
    path = folder / CARD
    if not path.is_file():  # the card is optional
        return
    write_text(path, _PLACE.sub(f"folder = {json.dumps(repo_id)}", read_regular(path).decode("utf-8"), count=1))


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


def checked_loading_code(directory: Path) -> list[str]:
    """Return the lines of Python in a run's card that load its model; empty unless this module has written them.

    The card may be someone else's, and users paste the code.
    """
    try:
        card = read_regular(directory / MODEL / CARD).decode("utf-8")
    except (OSError, ValueError):
        return []
    block = _FENCED_PYTHON.search(card)
    lines = block[1].splitlines() if block else []
    if not all(map(_LOADING.fullmatch, lines)):
        return []
    folder = f"folder = {json.dumps(str(directory / MODEL))}"  # the run may have been moved
    return [folder if line.startswith("folder = ") else line for line in lines]


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
    yield "objective", f"validation {escape_markdown(str(cfg.objective).removeprefix('eval_'))}"
    yield "seed", str(cfg.seed)
    yield "precision", "{precision} in training, {eval_precision} in evaluation".format(**trained.precision)


def _arguments(params: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the params that describe how the steps were taken."""
    for name in (*FIRST, *_EFFECTIVE):
        if params.get(name, "null") != "null":
            yield name, escape_markdown(params[name])
    for name, default in NEUTRAL.items():
        value = params.get(f"trainer.{name}", "null")
        if value != ("null" if default is None else str(default)):
            yield name, escape_markdown(value)


def _checkpoint(trained: ModelCardInputs, name: str) -> str:
    """Return a Hub ID with its commit, a directory, or the option whose checkpoint has no Hub ID."""
    revision = trained.cfg.model.get("revision")
    commit = hub.commit(name, revision) if name in trained.served("models") else None
    return markdown_code(private(trained.job.model_name(name))) + (f" at commit `{commit}`" if commit else "")


def _metrics(columns: Mapping[str, Mapping[str, float]], baseline: Baseline | None) -> str:
    """Return the metrics of each split, next to the scores of the baseline."""
    shown: dict[str, Mapping[str, float]] = {}
    for split, column in columns.items():
        shown[split] = column
        scores = baseline.scores.get(split, {}) if baseline else {}
        if reached := {name: value for name, value in scores.items() if name in column}:
            shown[f"{split} baseline"] = reached
    names = dict.fromkeys(name for column in shown.values() for name in column)
    rows = [(escape_markdown(name), *(number_text(c.get(name)) for c in shown.values())) for name in names]
    return _table(("", *shown), rows)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


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
            if is_finite(value):
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


def _fenced(language: str, text: str) -> str:
    """Format a block of code with a fence that is longer than those in the text."""
    fence = "`" * max(3, _longest_fence(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_fence(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
