"""Run inference on unlabeled data with the model of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydratune.cli.run_argument import add_run_argument
from hydratune.evaluation.predict import CHANGES, PredictRequest, predict
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.logs import show_progress
from hydratune.utils.places import check_place


def main(arguments: Sequence[str]) -> int:
    """Write the predictions, and return the exit code."""
    parser = ArgumentParser(prog="hydratune predict", description=__doc__)
    add_run_argument(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="data file: csv, tsv, json, jsonl, parquet, arrow, text, conll"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"override of {', '.join(CHANGES)}")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="output file: .jsonl, .csv, or .parquet [default: JSON Lines on stdout]",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="batch size [default: the run's]")
    parser.add_argument("--max-samples", type=int, metavar="N", help="maximum number of rows [default: all]")
    parser.add_argument(
        "--on-bad-rows",
        choices=("error", "skip"),
        default="error",
        help="action for invalid rows [default: %(default)s]",
    )
    parser.add_argument("--columns", type=_names, metavar="NAME,...", help="input columns to output [default: all]")
    parser.add_argument(
        "--min-confidence", type=float, metavar="P", help="probability below which a prediction is null [default: none]"
    )
    args = vars(parser.parse_args(arguments))
    show_progress()
    if args["out"]:
        check_place("--out", args["out"].parent)
    predict(PredictRequest(skip_bad_rows=args.pop("on_bad_rows") == "skip", **args))
    return 0


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
