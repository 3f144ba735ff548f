"""Test scores of all shipped experiments that work offline, compared with baselines: `make experiments`.

The experiments run one after the other, each in its own directory in --out. A finished experiment is not run again. The
baselines use the same rows: label or token frequencies of the training split, or a rule of one line.
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

from common import HYDRATUNE, compose
from omegaconf import DictConfig

from hydratune.config import composition
from hydratune.config.instantiate import build
from hydratune.config.options import options, shipped_dir
from hydratune.models.base import max_positions
from hydratune.tasks.base import Task
from hydratune.tasks.metrics import squad


@dataclass(frozen=True)
class Data:
    """Input of a baseline.

    Args:
        splits: Rows with the column names of the task.
        tokens: IDs of the tokens that a language model predicts, by split; empty for other tasks.
    """

    splits: Any
    tokens: dict[str, list[int]]

    def column(self, split: str, name: str) -> list[Any]:
        """Return the values of a column."""
        return list(self.splits[split][name])


@dataclass(frozen=True)
class Baseline:
    """Test metrics of a baseline.

    Args:
        name: Description in the table.
        metrics: Metrics on the test split, by their names in the task.
    """

    name: str
    metrics: dict[str, float]


# --- baselines -------------------------------------------------------------------------------------------


def most_frequent_label(data: Data) -> Baseline:
    """Predict the most frequent training label (majority class)."""
    from sklearn.dummy import DummyClassifier

    train, test = (data.column(split, "label") for split in ("train", "test"))
    classifier = DummyClassifier(strategy="most_frequent").fit([[0]] * len(train), train)
    return Baseline("most frequent label", {"accuracy": classifier.score([[0]] * len(test), test)})


def most_frequent_labels(data: Data) -> Baseline:
    """Predict the most frequent set of training labels."""
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    train, test = (data.column(split, "labels") for split in ("train", "test"))
    (common, _), *_ = Counter(map(tuple, train)).most_common(1)
    binary = MultiLabelBinarizer().fit(train)
    predicted = binary.transform([common] * len(test))
    scores = {f"{how}_f1": f1_score(binary.transform(test), predicted, average=how) for how in ("micro", "macro")}
    return Baseline(f"most frequent labels ({', '.join(common)})", scores)


def mean_label(data: Data) -> Baseline:
    """Predict the mean of the training labels."""
    from sklearn.dummy import DummyRegressor
    from sklearn.metrics import mean_squared_error

    train, test = (data.column(split, "label") for split in ("train", "test"))
    predicted = DummyRegressor().fit([[0]] * len(train), train).predict([[0]] * len(test))
    return Baseline("mean", {"pearson": 0.0, "mse": mean_squared_error(test, predicted)})


def most_frequent_tag(data: Data) -> Baseline:
    """Predict the most frequent training tag of each word, and O for unseen words."""
    from seqeval.metrics import f1_score

    counts_by_word: dict[str, Counter[str]] = defaultdict(Counter)
    for row in data.splits["train"]:
        for word, tag in zip(row["tokens"], row["labels"], strict=True):
            counts_by_word[word.lower()][tag] += 1
    tags = {word: counts.most_common(1)[0][0] for word, counts in counts_by_word.items()}
    predicted = [[tags.get(word.lower(), "O") for word in row] for row in data.column("test", "tokens")]
    return Baseline("most frequent tag of each word", {"f1": float(f1_score(data.column("test", "labels"), predicted))})


def longest_word_of_the_context(data: Data) -> Baseline:
    """Answer with the longest word of the context."""
    predicted = [longest_word(context) for context in data.column("test", "context")]
    scores = squad.scores(predicted, [answers["text"] for answers in data.column("test", "answers")], version_2=False)
    return Baseline("longest word of the context", {name: scores[name] for name in ("f1", "exact_match")})


def longest_word_of_the_source(data: Data) -> Baseline:
    """Generate the longest word of the source."""
    from sacrebleu.metrics import CHRF

    targets = data.column("test", "target")
    predicted = [longest_word(source) for source in data.column("test", "source")]
    exact = sum(text == target for text, target in zip(predicted, targets, strict=True)) / len(predicted)
    chrf = CHRF().corpus_score(predicted, [targets]).score
    return Baseline("longest word of the source", {"chrf": chrf, "exact_match": exact})


def longest_word(text: str) -> str:
    """Return the first of the longest words."""
    return max(text.replace(".", " ").replace(",", " ").split(), key=len)


def unigrams(data: Data) -> Baseline:
    """Predict tokens with their training frequency and add-one smoothing, regardless of the context."""
    counts = Counter(data.tokens["train"])
    vocab_size = len(counts | Counter(data.tokens["test"]))
    nats = [math.log((counts[token] + 1) / (counts.total() + vocab_size)) for token in data.tokens["test"]]
    return Baseline("frequency of the tokens", {"perplexity": math.exp(-sum(nats) / len(nats))})


def frequent_answers(data: Data) -> Baseline:
    """Predict complete answers with their training frequency, regardless of the prompt."""
    counts = Counter(data.column("train", "completion"))
    nats = [math.log(counts[answer] / counts.total()) for answer in data.column("test", "completion")]
    return Baseline("frequency of the answers", {"perplexity": math.exp(-sum(nats) / len(data.tokens["test"]))})


def random_choice(data: Data) -> Baseline:
    """Choose at random (expected accuracy)."""
    probabilities = [1 / len(choices) for choices in data.column("test", "choices")]
    return Baseline("chance", {"accuracy": sum(probabilities) / len(probabilities)})


BASELINES: dict[str, Callable[[Data], Baseline]] = {
    "sequence_classification": most_frequent_label,
    "image_classification": most_frequent_label,
    "multi_label_classification": most_frequent_labels,
    "regression": mean_label,
    "token_classification": most_frequent_tag,
    "question_answering": longest_word_of_the_context,
    "seq2seq": longest_word_of_the_source,
    "causal_lm": unigrams,
    "masked_lm": unigrams,
    "supervised_fine_tuning": frequent_answers,
    "multiple_choice": random_choice,
}
IGNORED = -100  # label that the loss ignores
LANGUAGE_MODELS = ("causal_lm", "masked_lm", "supervised_fine_tuning")


# --- experiments -----------------------------------------------------------------------------------------


def needs_hub(cfg: DictConfig) -> bool:
    """Return whether the data or the model are on the Hub."""
    return bool({**build(cfg.dataset).needs(), **build(cfg.model).needs()})


def run_experiment(name: str, folder: Path) -> dict[str, Any]:
    """Run an experiment unless it has finished in `folder` before, and return its metrics."""
    file = folder / "metrics.json"
    if not file.is_file():
        command = [HYDRATUNE, f"experiment={name}", "tracking=none", f"hydra.run.dir={folder.absolute()}"]
        subprocess.run(command, check=True)
    return json.loads(file.read_text())


def load(cfg: DictConfig, task_name: str) -> Data:
    """Load the rows of an experiment."""
    source, task = build(cfg.dataset), build(cfg.task)
    splits = source.load(task)
    tokens = predicted_tokens(cfg, task, splits, source.labels) if task_name in LANGUAGE_MODELS else {}
    return Data(splits, tokens)


def predicted_tokens(cfg: DictConfig, task: Task, splits: Any, labels: list[str] | None) -> dict[str, list[int]]:
    """Return the tokens that the loss covers, by split."""
    model = build(cfg.model)
    config = model.load_config()
    processor = model.load_processor(task.processor, config)
    limits = [limit for limit in (task.max_length, max_positions(config, processor)) if limit]
    prepared = task.prepare(splits, processor, min(limits, default=None), labels).splits
    return {split: _loss_tokens(prepared[split]) for split in ("train", "test")}


def _loss_tokens(rows: Any) -> list[int]:
    tokens = chain.from_iterable(rows["labels" if "labels" in rows.column_names else "input_ids"])
    special = chain.from_iterable(rows["special_tokens_mask"]) if "special_tokens_mask" in rows.column_names else ()
    return [
        token for token, is_special in zip_longest(tokens, special, fillvalue=0) if token != IGNORED and not is_special
    ]


def measure(name: str, cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Return a row of the table."""
    choices = cfg.hydra.runtime.choices
    metrics = run_experiment(name, out / name)
    baseline = BASELINES[choices.task](load(composition.without_hydra(cfg), choices.task))
    return {
        "experiment": name,
        "task": choices.task,
        "model": choices.model,
        "test": {metric: metrics[f"test_{metric}"] for metric in baseline.metrics},
        "baseline": baseline.metrics,
        "baseline_is": baseline.name,
        "minutes": metrics["train_runtime"] / 60,
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the table in Markdown."""
    lines = ["| experiment | task | model | test | baseline | minutes |", "|---|---|---|---|---|---|"]
    for row in rows:
        test, base = (format_metrics(row[key]) for key in ("test", "baseline"))
        cells = [f"`{row['experiment']}`", row["task"], row["model"], test, f"{base} ({row['baseline_is']})"]
        lines.append(f"| {' | '.join(cells)} | {row['minutes']:.1f} |")
    return "\n".join(lines)


def format_metrics(metrics: dict[str, float]) -> str:
    """Format names and values."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def main() -> None:
    """Run the unfinished experiments, print the table, and write it as JSON."""
    shipped = [option.name for option in options(shipped_dir()) if option.group == "experiment"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=shipped, default=shipped, metavar="NAME", help="of: %(choices)s")
    parser.add_argument("--out", type=Path, default=Path("outputs/experiments"))
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows = []
    for name in args.only:
        cfg = compose([f"experiment={name}"])
        if needs_hub(cfg):
            print(f"{name} needs the Hub and is skipped", file=sys.stderr)
            continue
        if cfg.cv.folds or build(cfg.dataset).validation_sets():
            print(f"{name} is a sweep or has several test sets, and is skipped", file=sys.stderr)
            continue
        rows.append(measure(name, cfg, args.out))
    print(format_table(rows))
    (args.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
