"""Test scores of all shipped experiments that work offline, compared with baselines: `make experiments`.

The experiments run one after the other, each in its own directory in --out. A finished experiment is not run again. The
baselines are computed from the same rows: counts of the training rows, or a rule of one line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from common import HYDRATUNE
from omegaconf import DictConfig

from hydratune.config import composition
from hydratune.config.instantiate import build
from hydratune.data.source import Source
from hydratune.models.base import max_positions
from hydratune.tasks.base import Task
from hydratune.tasks.metrics import squad


@dataclass(frozen=True)
class Data:
    """What a baseline may look at.

    Args:
        splits: Rows under the task's column names.
        tokens: Split -> the ids of the tokens that a language model is asked for; empty for other tasks.
    """

    splits: Any
    tokens: dict[str, list[int]]

    def column(self, split: str, name: str) -> list[Any]:
        """The values of a column."""
        return list(self.splits[split][name])


@dataclass(frozen=True)
class Baseline:
    """What to beat.

    Args:
        what: Said in the table.
        metrics: Of the rows' test split, by the names that the task gives them; the first is the one to look at.
    """

    what: str
    metrics: dict[str, float]


# --- baselines -------------------------------------------------------------------------------------------


def most_frequent_label(data: Data) -> Baseline:
    """The label that is most frequent in training, for every row."""
    from sklearn.dummy import DummyClassifier

    train, test = (data.column(split, "label") for split in ("train", "test"))
    guess = DummyClassifier(strategy="most_frequent").fit([[0]] * len(train), train)
    return Baseline("most frequent label", {"accuracy": guess.score([[0]] * len(test), test)})


def most_frequent_labels(data: Data) -> Baseline:
    """The set of labels that is most frequent in training, for every row."""
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    train, test = (data.column(split, "labels") for split in ("train", "test"))
    (common, _), *_ = Counter(map(tuple, train)).most_common(1)
    binary = MultiLabelBinarizer().fit(train)
    guessed = binary.transform([common] * len(test))
    scores = {f"{how}_f1": f1_score(binary.transform(test), guessed, average=how) for how in ("micro", "macro")}
    return Baseline(f"most frequent labels ({', '.join(common)})", scores)


def mean(data: Data) -> Baseline:
    """The mean of the training labels, for every row."""
    from sklearn.dummy import DummyRegressor
    from sklearn.metrics import mean_squared_error

    train, test = (data.column(split, "label") for split in ("train", "test"))
    guessed = DummyRegressor().fit([[0]] * len(train), train).predict([[0]] * len(test))
    return Baseline("mean", {"pearson": 0.0, "mse": mean_squared_error(test, guessed)})


def most_frequent_tag(data: Data) -> Baseline:
    """The tag that each word has most often in training; O for a word that is not there."""
    from seqeval.metrics import f1_score

    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in data.splits["train"]:
        for word, tag in zip(row["tokens"], row["labels"], strict=True):
            seen[word.lower()][tag] += 1
    tags = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
    said = [[tags.get(word.lower(), "O") for word in row] for row in data.column("test", "tokens")]
    return Baseline("most frequent tag of each word", {"f1": float(f1_score(data.column("test", "labels"), said))})


def longest_word_of_the_context(data: Data) -> Baseline:
    """As an answer."""
    said = [longest_word(context) for context in data.column("test", "context")]
    scores = squad.scores(said, [answers["text"] for answers in data.column("test", "answers")], version_2=False)
    return Baseline("longest word of the context", {name: scores[name] for name in ("f1", "exact_match")})


def longest_word_of_the_source(data: Data) -> Baseline:
    """As the target."""
    from sacrebleu.metrics import CHRF

    targets = data.column("test", "target")
    said = [longest_word(source) for source in data.column("test", "source")]
    exact = sum(one == target for one, target in zip(said, targets, strict=True)) / len(said)
    chrf = CHRF().corpus_score(said, [targets]).score
    return Baseline("longest word of the source", {"chrf": chrf, "exact_match": exact})


def longest_word(text: str) -> str:
    """The first of the longest words."""
    return max(text.replace(".", " ").replace(",", " ").split(), key=len)


def unigrams(data: Data) -> Baseline:
    """Each token as probable as it is frequent in training, plus one."""
    counts = Counter(data.tokens["train"])
    kinds = len(counts | Counter(data.tokens["test"]))
    nats = [math.log((counts[token] + 1) / (counts.total() + kinds)) for token in data.tokens["test"]]
    return Baseline("frequency of the tokens", {"perplexity": math.exp(-sum(nats) / len(nats))})


def frequent_answers(data: Data) -> Baseline:
    """Each whole answer as probable as it is frequent in training, whatever was asked."""
    counts = Counter(data.column("train", "completion"))
    nats = [math.log(counts[answer] / counts.total()) for answer in data.column("test", "completion")]
    return Baseline("frequency of the answers", {"perplexity": math.exp(-sum(nats) / len(data.tokens["test"]))})


def chance(data: Data) -> Baseline:
    """Any of the choices."""
    shares = [1 / len(choices) for choices in data.column("test", "choices")]
    return Baseline("chance", {"accuracy": sum(shares) / len(shares)})


BASELINES: dict[str, Callable[[Data], Baseline]] = {
    "sequence_classification": most_frequent_label,
    "image_classification": most_frequent_label,
    "multi_label_classification": most_frequent_labels,
    "regression": mean,
    "token_classification": most_frequent_tag,
    "question_answering": longest_word_of_the_context,
    "seq2seq": longest_word_of_the_source,
    "causal_lm": unigrams,
    "masked_lm": unigrams,
    "supervised_fine_tuning": frequent_answers,
    "multiple_choice": chance,
}
IGNORED = -100  # labels that are no part of the loss
LANGUAGE_MODELS = ("causal_lm", "masked_lm", "supervised_fine_tuning")


# --- experiments -----------------------------------------------------------------------------------------


def compose(name: str) -> DictConfig:
    """The config of an experiment with its `hydra` node."""
    request = composition.Request((f"experiment={name}",))
    with composition.composer(request):
        return composition.compose_config(request, request.overrides)


def needs_hub(cfg: DictConfig) -> bool:
    """Whether its data or its model are on the hub."""
    return bool({**build(cfg.dataset).needs(), **build(cfg.model).needs()})


def run(name: str, folder: Path) -> dict[str, Any]:
    """The metrics of an experiment, which runs where it has not finished in `folder` before."""
    finished = folder / "metrics.json"
    if not finished.is_file():
        command = [HYDRATUNE, f"experiment={name}", "tracking=none", f"hydra.run.dir={folder.absolute()}"]
        subprocess.run(command, check=True)
    return json.loads(finished.read_text())


def load(cfg: DictConfig, task_name: str) -> Data:
    """The rows that the experiment had."""
    source: Source = build(cfg.dataset)
    task: Task = build(cfg.task)
    splits = source.load(task)
    tokens = predicted_tokens(cfg, task, splits, source.labels) if task_name in LANGUAGE_MODELS else {}
    return Data(splits, tokens)


def predicted_tokens(cfg: DictConfig, task: Task, splits: Any, labels: list[str] | None) -> dict[str, list[int]]:
    """Split -> its tokens, without those that the loss leaves out."""
    model = build(cfg.model)
    config = model.load_config()
    processor = model.load_processor(task.processor, config)
    limits = [limit for limit in (task.max_length, max_positions(config, processor)) if limit]
    prepared = task.prepare(splits, processor, min(limits, default=None), labels).splits
    return {split: _asked(prepared[split]) for split in ("train", "test")}


def _asked(rows: Any) -> list[int]:
    tokens = chain.from_iterable(rows["labels" if "labels" in rows.column_names else "input_ids"])
    special = chain.from_iterable(rows["special_tokens_mask"]) if "special_tokens_mask" in rows.column_names else ()
    return [token for token, out in zip_longest(tokens, special, fillvalue=0) if token != IGNORED and not out]


def measure(name: str, cfg: DictConfig, out: Path) -> dict[str, Any]:
    """A row of the table."""
    choices = cfg.hydra.runtime.choices
    metrics = run(name, out / name)
    baseline = BASELINES[choices.task](load(composition.without_hydra(cfg), choices.task))
    return {
        "experiment": name,
        "task": choices.task,
        "model": choices.model,
        "test": {metric: metrics[f"test_{metric}"] for metric in baseline.metrics},
        "baseline": baseline.metrics,
        "baseline_is": baseline.what,
        "minutes": metrics["train_runtime"] / 60,
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines = ["| experiment | task | model | on test | baseline | minutes |", "|---|---|---|---|---|---|"]
    for row in rows:
        test, base = (said(row[of]) for of in ("test", "baseline"))
        cells = [f"`{row['experiment']}`", row["task"], row["model"], test, f"{base} ({row['baseline_is']})"]
        lines.append(f"| {' | '.join(cells)} | {row['minutes']:.1f} |")
    return "\n".join(lines)


def said(metrics: dict[str, float]) -> str:
    """Names and values."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def main() -> None:
    """Runs what is missing, prints the table and writes it as JSON."""
    shipped = [option.name for option in composition.options(composition.shipped_dir()) if option.group == "experiment"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=shipped, default=shipped, metavar="NAME", help="of: %(choices)s")
    parser.add_argument("--out", type=Path, default=Path("outputs/experiments"))
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows = []
    for name in given.only:
        cfg = compose(name)
        if needs_hub(cfg):
            print(f"{name} needs the Hub and is skipped", file=sys.stderr)
            continue
        if cfg.cv.folds or build(cfg.dataset).validation_sets():
            print(f"{name} is a sweep or has several test sets, and is skipped", file=sys.stderr)
            continue
        rows.append(measure(name, cfg, given.out))
    print(markdown(rows))
    (given.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
