"""`hydratune compare RUN RUN...`: compare runs, and test whether their differences are statistically significant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import USER_ERROR, ConfigError, invalid_value
from hydratune.utils.files import directory_not_found
from hydratune.utils.messages import print_error

_EPILOG = """RUN is an MLflow run id or the beginning of one, a run's name, or a run's directory.

Two runs on the same test rows: an exact McNemar test where rows are right or wrong, else a permutation test with a
bootstrap interval. Rows that belong together (dataset.group_by_column, the context of a question) are one unit.
Several runs: each against the best, adjusted for all pairs. Runs that differ only in their seed form a group;
groups of at least three seeds are compared by a paired t-test over the same seeds, or by Welch's t-test.

Exit code 2: an error, or runs that have no metric in common."""


def main(arguments: Sequence[str]) -> int:
    """Compare runs and return the exit code."""
    args = _parser().parse_args(arguments)
    if args.plot:
        _check_plot(args.plot)
    # These imports come late to keep --help fast: they import Hydra, and MLflow when they open a store.
    from hydratune.evaluation.compare import table
    from hydratune.evaluation.compare.selection import Stores, chosen
    from hydratune.evaluation.compare.verdict import judge
    from hydratune.tracking.mlflow import Mlflow

    runs = chosen(Stores(args.uri or Mlflow.uri), args.runs, args.experiment, args.last, args.all)
    verdict = judge(runs, args.metric)
    write = table.as_json if args.json else table.as_csv if args.csv else table.table
    write(runs, verdict)
    if args.plot:
        from hydratune.evaluation.compare.plot import draw

        draw(runs, verdict, args.plot)
    if not verdict.comparisons and not table.shared_metrics(runs):
        print_error("nothing to compare: no two of these runs have a metric in common")
        return USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="hydratune compare",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run directory, name, or MLflow run ID")
    parser.add_argument("--experiment", metavar="NAME", help="MLflow experiment whose runs are compared")
    parser.add_argument("--last", type=int, metavar="N", help="number of runs, newest first [default: all]")
    parser.add_argument("--all", action="store_true", help="include sweeps and unfinished runs")
    parser.add_argument("--metric", metavar="NAME", help="metric to compare, e.g. f1 [default: the objective]")
    parser.add_argument("--uri", help="MLflow store [default: the store of this directory]")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="output as JSON")
    output.add_argument(
        "--csv", action="store_true", help="output as CSV, one line per run; the verdict goes to stderr"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="file for a plot of learning curves and differences"
    )
    return parser


def _check_plot(path: Path) -> None:
    """Raise ConfigError before anything is read if the plot could not be written in the end."""
    if path.suffix.lower() != ".png":
        raise ConfigError(invalid_value("--plot", "a file name that ends with .png", repr(str(path))))
    if not path.parent.is_dir():
        raise ConfigError(directory_not_found("--plot", path.parent))
