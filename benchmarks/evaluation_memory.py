"""Memory of an evaluation in addition to the model: `python benchmarks/evaluation_memory.py`.

Classification of 100,000 rows over 1,000 labels, with a small randomly initialized model. It measures the evaluation of
a run, with metrics that need more and more of the probabilities, the fit of a calibration on the same rows, and a plain
Trainer, which gathers all logits. Each runs in its own process. The peak resident memory is counted from the moment
that the model and the rows are loaded. Pages of a file that the process reads count as well.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from common import make_parser, parse_args, report_results, run_interleaved
from rich.table import Table

# Evaluation -> its metrics.
METRICS = {
    "labels (accuracy, macro_f1)": ["accuracy", "macro_f1"],
    "probability of the true label (log_loss, brier, ece, top_k_accuracy)": [
        *["log_loss", "brier", "ece", "top_k_accuracy"]
    ],
    "all probabilities (roc_auc, average_precision)": ["roc_auc", "average_precision"],
}
CALIBRATIONS = {"fit of a temperature": "temperature", "fit of an isotonic regression": "isotonic"}
BASELINE = "plain Trainer (accuracy)"
KINDS = (*METRICS, *CALIBRATIONS, BASELINE)
GIB = 1024**2  # in KiB, the unit of ru_maxrss on Linux


def measure(kind: str, rows: int, labels: int) -> float:
    """Evaluate in this process, and return by how many GiB its peak memory grows."""
    import numpy as np
    from datasets import Dataset
    from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Seq2SeqTrainingArguments

    from hydratune.tasks import calibration
    from hydratune.tasks.base import EvalSplit
    from hydratune.tasks.metrics.metric import SCORES
    from hydratune.tasks.probabilities import first_logits
    from hydratune.tasks.sequence_classification import SequenceClassification
    from hydratune.training.trainer.trainer import Trainer

    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        num_labels=labels,
    )
    generator = np.random.default_rng(0)
    columns = {
        "input_ids": generator.integers(0, 100, (rows, 4)),
        "labels": generator.integers(0, labels, rows),
    }
    data = Dataset.from_dict(columns)
    head = {"num_labels": labels, "id2label": {i: str(i) for i in range(labels)}}
    arguments: dict[str, Any]
    if kind in METRICS:
        task = SequenceClassification(metrics=METRICS[kind])
        compute = lambda p: task.compute_metrics(p, EvalSplit(data, head))  # noqa: E731
        arguments = {"preprocess_logits_for_metrics": task.reduce_logits, "compute_metrics": compute}
    elif kind in CALIBRATIONS:
        fit = partial(calibration.fit, CALIBRATIONS[kind])
        arguments = {
            "preprocess_logits_for_metrics": lambda logits, _: {SCORES: first_logits(logits)},
            "compute_metrics": lambda p: fit(p.predictions[SCORES], p.label_ids, is_multi_label=False) and {},
        }
    else:
        arguments = {"compute_metrics": lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())}}
    with tempfile.TemporaryDirectory() as folder:
        args = Seq2SeqTrainingArguments(
            folder, per_device_eval_batch_size=128, report_to="none", disable_tqdm=True, dataloader_pin_memory=False
        )
        trainer = Trainer(BertForSequenceClassification(config), args, **arguments)
        trainer.remove_callback(PrinterCallback)
        trainer.evaluate(data.select(range(256)))  # warms up allocators and caches
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer.evaluate(data)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / GIB


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=1_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help="of: %(choices)s")
    args = parse_args(parser)
    if args.quick:
        args.rows, args.labels = 1_000, 100
    multiprocessing.set_forkserver_preload(
        ["hydratune.tasks.sequence_classification", "hydratune.training.trainer.trainer"]
    )
    measures = {kind: partial(measure_in_new_process, kind, args.rows, args.labels) for kind in args.kinds}
    measurements = run_interleaved(args.rounds, measures)
    title = f"Evaluation memory, {args.rows:,} rows, {args.labels:,} labels"
    table = Table("evaluation", "GiB in addition to model and rows", title=title)
    for kind, gib in measurements.items():
        table.add_row(kind, f"{statistics.median(gib):.3f}")
    report_results(__file__, args.out, [table], {"rows": args.rows, "labels": args.labels, "gib": measurements})


def measure_in_new_process(kind: str, rows: int, labels: int) -> float:
    """Call `measure` in a fork of a process that has imported the libraries."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(measure, kind, rows, labels).result()


if __name__ == "__main__":
    main()
