"""Padding of batches of 32 texts, in random order and grouped by length: `python benchmarks/padding.py`.

Padding tokens as a share of the tokens of the texts, as the mean over epochs and seeds. No model is trained. The texts
are those of the WordNet datasets, and of `--data`, a directory with `train.jsonl` (`sentence1`, `sentence2`).
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import make_parser, parse_args, report_results
from rich.table import Table
from workload import minilm_checkpoint

BATCH_SIZE = 32
EPOCHS, SEEDS = 4, 5


def token_counts(data: Path | None) -> dict[str, list[int]]:
    """Return the number of tokens of each training row, by data set."""
    from transformers import AutoTokenizer

    from hydratune.data import WordnetPairs, WordnetSupersense

    tokenizer: Any = AutoTokenizer.from_pretrained(str(minilm_checkpoint()))
    pairs, glosses = (source.read().splits["train"] for source in (WordnetPairs(), WordnetSupersense()))
    texts = {"wordnet_pairs": (pairs["text"], pairs["text_pair"]), "wordnet_supersense": (glosses["text"],)}
    if data:
        rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
        texts[data.name] = tuple([row[name] for row in rows] for name in ("sentence1", "sentence2"))
    return {name: [*map(len, tokenizer(*map(list, columns))["input_ids"])] for name, columns in texts.items()}


def padding_share(lengths: Sequence[int], grouped: bool) -> float:
    """Return the number of padding tokens divided by the number of other tokens."""
    from hydratune.training.trainer.sampler import LengthGroupedSampler, ShuffledSampler

    shares = []
    for seed in range(SEEDS):
        sampler = LengthGroupedSampler(lengths, BATCH_SIZE, seed) if grouped else ShuffledSampler(len(lengths), seed)
        for epoch in range(EPOCHS):
            sampler.set_epoch(epoch)
            order = [lengths[row] for row in sampler]
            batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
            shares.append(sum(max(batch) * len(batch) for batch in batches) / sum(order) - 1)
    return statistics.fmean(shares)


def main() -> None:
    """Compute the shares, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--data", type=Path, help="directory of a train.jsonl with sentence1 and sentence2")
    args = parse_args(parser)
    lengths_by_data = token_counts(args.data)
    table = Table("rows", "order", *lengths_by_data, title=f"Padding relative to the tokens, batches of {BATCH_SIZE}")
    values: dict[str, dict[str, float]] = {}
    for rows in (128, 512) if args.quick else (128, 512, 2048):
        samples = {name: random.Random(0).sample(counts, rows) for name, counts in lengths_by_data.items()}  # noqa: S311
        for grouped in (False, True):
            shares = {name: padding_share(lengths, grouped) for name, lengths in samples.items()}
            order = "grouped by length" if grouped else "shuffled"
            values[f"{rows} rows, {order}"] = shares
            table.add_row(f"{rows:,}", order, *(f"{share:.0%}" for share in shares.values()))
    report_results(__file__, args.out, [table], {"padding": values})


if __name__ == "__main__":
    main()
