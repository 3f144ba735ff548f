"""Evaluation of a finished run on other data."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import user_settings
from hydratune.config.allowlist import is_in
from hydratune.config.instantiate import build
from hydratune.data.cache import content_hash
from hydratune.data.cross_validation import CrossValidation
from hydratune.data.eval_sets import kind_of, sets_of
from hydratune.data.label_names import split_unseen, unseen_counts
from hydratune.data.partition import limited
from hydratune.data.source import Source
from hydratune.data.source_checks import SPLITS
from hydratune.data.split_column import unknown_split
from hydratune.data.splits import without_groups
from hydratune.data.streaming import is_stream
from hydratune.data.unusable_rows import left_out
from hydratune.evaluation.load_run import (
    FinishedRun,
    build_task,
    change_config,
    load,
    load_processor,
    overriding,
    started_here,
)
from hydratune.training.artifacts import decoded_rows
from hydratune.training.eval_sets import EvalSets, eval_splits
from hydratune.training.report.page import prediction_sections
from hydratune.training.results import BALANCED, split_metrics
from hydratune.training.setup import cross_validation, make_trainer, use_task_loss
from hydratune.training.tables import write as write_tables
from hydratune.utils import hub, report_page
from hydratune.utils.errors import KEY, ConfigError, Problem, optional_record
from hydratune.utils.files import (
    EVALUATION_PREDICTIONS,
    EVALUATIONS,
    make_directory,
    remove_file,
    write_json,
    write_lines,
    write_text,
)
from hydratune.utils.logs import quiet_libraries
from hydratune.utils.provenance import redact, text_hash

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from hydratune.tasks.base import Task

log = logging.getLogger(__name__)

# Keys of a run's config that overrides may change; the model stays as it was trained.
CHANGES = ("dataset", "hardware", "task.extra_metrics", "task.metrics", "trainer.args.per_device_eval_batch_size")
# Keys of the dataset that do not select other data.
_SAME_DATA = ("dataset.max_samples", "dataset.on_bad_rows", "dataset.unseen_labels")
_LOCAL = "LocalFiles"


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Args:
        name: Name of the file, and of the evaluation in MLflow.
        split: Split of the data that was scored.
        rows: Number of rows.
        digest: Hash of the rows' content.
        dataset: Config of the data.
        metrics: Name -> value, without a prefix.
        precision: Precision of the evaluation, e.g. `bf16`.
        decoded: Rows with their predictions, see `Task.predictions_with_labels`.
        tables: Results by label, see `Task.tables`.
    """

    name: str
    split: str
    rows: int
    digest: str
    dataset: Mapping[str, Any]
    metrics: Mapping[str, float]
    precision: str
    decoded: Sequence[Mapping[str, Any]] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def write(self, run_directory: Path) -> list[Path]:
        """Write the metrics, the predictions, the tables by label, and a report; return the files.

        Args:
            run_directory: Directory of the evaluated run.
        """
        folder = run_directory / EVALUATIONS
        make_directory(folder)
        summary, predictions, page = (
            folder / f"{self.name}{end}" for end in (".json", EVALUATION_PREDICTIONS, ".html")
        )
        remove_file(predictions)  # of an earlier evaluation under this name
        write_json(summary, {name: value for name, value in vars(self).items() if name not in ("decoded", "tables")})
        if not self.decoded:
            return [summary]
        write_lines(predictions, self.decoded)
        with optional_record(page.name):
            write_text(page, self._report())
        return [summary, predictions, page, *write_tables(self.tables, folder / f"{self.name}.tables")]

    def _report(self) -> str:
        return report_page.page(
            self.name,
            report_page.paragraph(f"{self.rows:,} rows of {self.split}", "lead"),
            report_page.section("Metrics", report_page.table(["metric", self.name], [*self.metrics.items()])),
            *prediction_sections(self.decoded, self.tables, split=self.name),
        )


def evaluate(
    run: FinishedRun, overrides: Sequence[str] = (), name: str | None = None, config_dir: Path | None = None
) -> Evaluation:
    """Return the scores on the data that the overrides select, or on the run's own test rows.

    Raises:
        ConfigError: If an override is invalid, or if rows are unreadable or have labels that the model does not have.
    """
    cfg, typed_keys = _changed(run.cfg, overrides, config_dir)
    if not started_here(run.directory):
        if errors := [*user_settings.data_files(cfg, typed_keys, ["dataset"])]:
            raise ConfigError(*errors)
        user_settings.restrict_images(cfg, typed_keys)
    is_other = any(not is_in(key, _SAME_DATA) for key in _keys(overrides) if is_in(key, ("dataset",)))
    file_split = _one_file(cfg) if is_other else None
    evaluation_name = _checked_name(name or _name(cfg, overrides, file_split)) if name or is_other else ""
    _use_balanced_weights(cfg, run)
    task = build_task(cfg)
    source = _source(cfg, task, file_split)
    hub.force_offline_if_unreachable(source.needs())
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(replace(run, cfg=cfg), task, load_processor(run, task), Path(folder))
        trained_labels = [str(loaded.head["id2label"][i]) for i in range(loaded.head["num_labels"])]
        if is_other:
            split, sets = _other_rows(task, source, trained_labels, file_split)
        else:
            split, sets = _own_rows(task, source, trained_labels, cross_validation(cfg))
        count = sum(map(len, sets.values()))
        log.info("data: %s rows of %s", f"{count:,}", split)
        named_sets = _splits(**{f"test.{name}" if name else "test": rows for name, rows in sets.items()})
        data = task.prepare(named_sets, loaded.processor, loaded.longest, trained_labels)
        for note in data.notes:
            log.warning("data: %s", note)
        task.check_head(data.head)
        trainer = make_trainer(
            cfg.trainer,
            model=loaded.network,
            args=loaded.args,
            data_collator=task.collator(loaded.processor),
            processing_class=loaded.processor,
            preprocess_logits_for_metrics=task.reduce_logits,
        )
        use_task_loss(trainer, data.loss)
        evaluated = EvalSets(task, eval_splits(data, "test", run.tuned(task))).predict(trainer, "test")
    dataset_config: Any = redact(OmegaConf.to_container(cfg.dataset))
    digests, metrics = [content_hash(rows) for rows in sets.values()], split_metrics(evaluated.metrics, "test")
    digest = digests[0] if len(digests) == 1 else text_hash(" ".join(digests))
    decoded: list[dict[str, Any]] = []
    tables: Mapping[str, pd.DataFrame] = {}
    with optional_record("predictions"):
        decoded = decoded_rows(task, sets, (), evaluated)
        tables = task.tables(decoded, data.head) if decoded else {}
    return Evaluation(
        evaluation_name or f"own_{split}",
        split,
        count,
        digest,
        dataset_config,
        metrics,
        loaded.precision,
        decoded,
        tables,
    )


# --- arguments -------------------------------------------------------------------------------------------


def _keys(overrides: Sequence[str]) -> list[str]:
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def _changed(cfg: DictConfig, overrides: Sequence[str], config_dir: Path | None) -> tuple[DictConfig, list[str]]:
    """Return the run's config with the overrides, and the typed keys; `dataset=NAME` replaces the run's dataset."""
    with overriding(overrides, config_dir) as request:
        cfg, problems = change_config(cfg, request, CHANGES)
        typed_keys = [*request.typed_keys, *request.chosen_groups]
        problems = problems or [*user_settings.names_of_variables(cfg, request.typed_keys)]
    if problems:
        raise ConfigError(*problems)
    return cfg, typed_keys


def _use_balanced_weights(cfg: DictConfig, run: FinishedRun) -> None:
    """Replace `balanced` settings of the task by the weights that the run computed from its training labels."""
    recorded = run.metrics.get(BALANCED)
    for name, weights in recorded.items() if isinstance(recorded, dict) else ():
        # Only numbers are taken, since a text may be an interpolation.
        is_valid = isinstance(weights, dict) and all(isinstance(weight, float) for weight in weights.values())
        if is_valid and cfg.task.get(name) == "balanced":
            cfg.task[name] = weights


def _one_file(cfg: DictConfig) -> str | None:
    """Return the split of local files to score, and make it the only one of `cfg`; None for other datasets."""
    if not str(cfg.dataset.get("_target_")).endswith(f".{_LOCAL}"):
        return None
    paths: Any = OmegaConf.to_container(cfg.dataset.get("files") or OmegaConf.create({}))
    split_names: Any = OmegaConf.to_container(cfg.dataset.get("splits") or OmegaConf.create({}))
    settings = {"files": paths, "splits": split_names}
    if unknown := [unknown_split(key, name) for key, names in settings.items() for name in names if name not in SPLITS]:
        raise ConfigError(*(problem.under("dataset") for problem in unknown))
    files = {split: path for split, path in paths.items() if path not in (None, "???")}
    files |= {
        split: files["train"] for split, name in split_names.items() if name and "train" in files and split not in files
    }
    split = next((name for name in reversed(SPLITS) if name in files), None)
    if split is None:
        raise ConfigError(Problem("dataset.files.test", f"{KEY} is required", f"set {KEY}=FILE"))
    if isinstance(files[split], dict):
        text = f"{KEY} names several sets, but other data are scored one set at a time"
        hint = f"set {KEY}={next(iter(files[split].values()), 'FILE')}"
        raise ConfigError(Problem(f"dataset.files.{split}", text, hint))
    cfg.dataset.files = {"train": files[split]}
    cfg.dataset.splits = {"train": split_names.get(split)}
    cfg.dataset.streaming = False
    return split


def _name(cfg: DictConfig, overrides: Sequence[str], split: str | None) -> str:
    """Return the name of the file or the repository, or else of the dataset's option or class in snake case."""
    if split is not None:
        train_path = cfg.dataset.files.train
        return Path(train_path if isinstance(train_path, str) else train_path[0]).stem
    if path := cfg.dataset.get("path"):
        return "_".join([Path(str(path)).name, *([str(cfg.dataset.name)] if cfg.dataset.get("name") else [])])
    if option := next((text.partition("=")[2] for text in overrides if text.startswith("dataset=")), ""):
        return option
    class_name = str(cfg.dataset.get("_target_")).rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()


def _checked_name(name: str) -> str:
    """Return the name if it is valid in MLflow and file systems; raise ConfigError otherwise."""
    if not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII) or name.startswith("."):
        text = f"{name!r} cannot name an evaluation: only up to 100 letters, digits, dots, dashes, and underscores"
        raise ConfigError(Problem("--name", text, f"choose a name with {KEY}=NAME"))
    return name


def _source(cfg: DictConfig, task: Task, split: str | None) -> Any:
    """Build and check the dataset of a checked config, in which `_one_file` made a split the training split."""
    source = build(cfg.dataset)
    problems = [*source.check()] or [*source.check_columns(task.columns)]
    if problems:
        typed = [replace(p, key=f"files.{split}") if split and p.key == "files.train" else p for p in problems]
        raise ConfigError(*(problem.under("dataset") for problem in typed))
    return source


# --- rows ------------------------------------------------------------------------------------------------


def _splits(**splits: Dataset) -> Any:
    from datasets import DatasetDict

    return DatasetDict(splits)


def _own_rows(
    task: Task, source: Any, trained_labels: list[str], cv: CrossValidation
) -> tuple[str, dict[str, Dataset]]:
    """Return the run's test split, or its validation split if it has no test split: set -> rows."""
    splits = without_groups(source.load(task, cv))
    kind = "test" if sets_of(splits, "test") else "validation"
    sets = sets_of(splits, kind).items()
    return kind, {name: task.align_labels(splits[split], source.label_names, trained_labels) for name, split in sets}


def _other_rows(
    task: Task, source: Any, trained_labels: list[str], file_split: str | None
) -> tuple[str, dict[str, Dataset]]:
    """Return the split of other data to score, without bad rows if the config drops them, as a set without a name.

    Args:
        task: Task of the run.
        source: Dataset of the other data.
        trained_labels: Label names of the model.
        file_split: Split of the files as the user named them, which `_one_file` made the training split; None for
            other datasets.
    """
    if not isinstance(source, Source):
        text = f"{KEY} must be a single dataset, not {type(source).__name__}"
        raise ConfigError(Problem("dataset", text, "evaluate on each of its datasets"))
    split, raw = source.read_one(task.columns)
    if is_stream(raw.splits[split]):
        raise ConfigError(Problem("dataset.streaming", "evaluation does not support streaming", f"set {KEY}=false"))
    rows = source.under_task_names(raw.splits, task.columns)[split]
    rows = task.align_labels(rows, source.labels, trained_labels)
    bad_rows = [replace(bad_row, split=split) for bad_row in task.bad_rows(_splits(train=rows), trained_labels)]
    # The only split has the name that the user typed, unless a column of the file names several splits.
    name = file_split if file_split and split == "train" else split
    located = [replace(bad_row, split=name) for bad_row in raw.located(bad_rows)]
    bad_rows, unseen, errors = split_unseen(located, source.unseen_labels, {name: len(rows)})
    if errors:
        raise ConfigError(*errors)
    if unseen:
        log.warning("data: %s", unseen_counts(unseen, {name: len(rows)}, source.unseen_labels))
    hint = None if source.on_bad_rows == "skip" else "dataset.on_bad_rows=skip"
    all_bad = [*(replace(bad_row, split=name) for bad_row in raw.bad), *bad_rows]
    dropped = left_out(len(rows), all_bad, "dataset", hint)
    dropped |= {row.row for row in unseen if row.row is not None} if source.unseen_labels == "drop" else set()
    if len(dropped) == len(rows):
        text = f"no row of {name} has a label of the model"
        hint = f"set {KEY}=keep to count the rows as errors of the model"
        raise ConfigError(Problem("dataset.unseen_labels", text, hint))
    rows = rows.select([i for i in range(len(rows)) if i not in dropped]) if dropped else rows
    max_rows = source.max_samples.get(kind_of(split))
    return name, {"": limited(rows, max_rows, source.seed, not task.keeps_order()) if max_rows else rows}
