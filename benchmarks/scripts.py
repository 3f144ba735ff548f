"""Typical training scripts without hydratune, for comparison: `python scripts.py course --rows DIR ...`.

Each is a plain Trainer over the same rows. To make them comparable, they have additions to the originals: a seed, a
stopwatch, no checkpoints, and optional evaluations: on the validation set after each epoch, on the test set at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import load_dataset
from sklearn.metrics import accuracy_score, f1_score
from stopwatch import Stopwatch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


def course(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Hugging Face course, chapter 3: batches of 8, padded to their longest row, fp32, learning rate 5e-5."""
    return {"truncation": True}, DataCollatorWithPadding(tokenizer)


def run_glue(tokenizer: Any) -> tuple[dict[str, Any], Any]:  # noqa: ARG001
    """Defaults of transformers' `run_glue.py`: batches of 8, padded to 128 tokens, fp32, learning rate 5e-5."""
    return {"padding": "max_length", "max_length": 128, "truncation": True}, default_data_collator


def by_hand(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Script of the course with the TrainingArguments of hydratune, which `--settings` has."""
    return course(tokenizer)


SCRIPTS: dict[str, Callable[[Any], tuple[dict[str, Any], Any]]] = {
    script.__name__: script for script in (course, run_glue, by_hand)
}


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Compute the metrics that the course uses for MRPC."""
    labels, predicted = prediction.label_ids, prediction.predictions.argmax(-1)
    return {"accuracy": accuracy_score(labels, predicted), "f1": f1_score(labels, predicted)}


def main() -> None:
    """Train a model, and test it with `--test`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", choices=list(SCRIPTS))
    parser.add_argument("--rows", type=Path, required=True, help="directory of train.jsonl and test.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--validate", action="store_true", help="evaluate after each epoch")
    parser.add_argument("--settings", type=json.loads, default={}, help="TrainingArguments as JSON")
    parser.add_argument("--attention", help="attention implementation [default: chosen by transformers]")
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()

    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    tokenizer_args, collator = SCRIPTS[args.script](tokenizer)
    files = {split: str(args.rows / f"{split}.jsonl") for split in ("train", "validation", "test")}
    rows = load_dataset("json", data_files=files)
    encoded = rows.map(lambda batch: tokenizer(batch["text"], batch["text_pair"], **tokenizer_args), batched=True)
    model = AutoModelForSequenceClassification.from_pretrained(args.checkpoint, attn_implementation=args.attention)
    trainer = Trainer(
        model,
        TrainingArguments(
            str(args.out / "checkpoints"),
            num_train_epochs=args.epochs,
            seed=args.seed,
            save_strategy="no",
            eval_strategy="epoch" if args.validate else "no",
            report_to="none",
            disable_tqdm=True,
            **args.settings,
        ),
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        compute_metrics=compute_metrics,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[Stopwatch(str(args.out / "stopwatch.json"))],
    )
    train_metrics = trainer.train().metrics
    if args.test:
        test_metrics = trainer.predict(encoded["test"]).metrics
        metrics = {name: test_metrics[name] for name in ("test_accuracy", "test_f1")}
        metrics["train_runtime"] = train_metrics["train_runtime"]
        (args.out / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
