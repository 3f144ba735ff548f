"""Compare runs, and test whether their differences are statistically significant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hydratune.cli.run_argument import RUN_FORMS
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import USER_ERROR, ConfigError, invalid_value
from hydratune.utils.files import directory_not_found
from hydratune.utils.messages import print_error
from hydratune.utils.places import check_place

_EPILOG = """Two runs on the same test rows are compared with an exact McNemar test if each prediction is either correct
or incorrect, otherwise with a permutation test and a bootstrap interval. Rows of one group (dataset.group_by_column,
the context of a question) are treated as one unit. With more than two runs, each is compared with the best one;
p-values are adjusted for all pairs.

Runs that differ only in their seed form a group. Groups of at least three seeds are compared with a paired t-test if
they have the same seeds, otherwise with Welch's t-test.

Exit code 2: an error, or runs that have no metric in common."""


def main(arguments: Sequence[str]) -> int:
    """Compare runs and return the exit code."""
    args = _parser().parse_args(arguments)
    for flag, path, suffix in (("--plot", args.plot, ".png"), ("--report", args.report, ".html")):
        if path:
            _check_file(flag, path, suffix)
    # These imports come late to keep --help fast: they import Hydra, and MLflow when they open a store.
    from hydratune.evaluation.compare import table
    from hydratune.evaluation.compare.evaluations import on_evaluation
    from hydratune.evaluation.compare.selection import chosen
    from hydratune.evaluation.compare.verdict import judge
    from hydratune.tracking.run_lookup import RunLookup

    runs = chosen(RunLookup(args.uri), args.runs, args.experiment, args.last, args.all)
    runs, metric = on_evaluation(runs, args.metric)
    verdict = judge(runs, metric)
    if runs and runs[0].evaluation:
        verdict.remarks.append(f"test metrics are from the evaluation {runs[0].evaluation!r}")
    write = table.as_json if args.json else table.as_csv if args.csv else table.table
    write(runs, verdict)
    if args.plot:
        from hydratune.evaluation.compare.plot import draw

        draw(runs, verdict, args.plot)
    if args.report:
        from hydratune.evaluation.compare import report

        report.write(runs, verdict, args.report)
    if not verdict.comparisons and not table.shared_metrics(runs):
        print_error("nothing to compare: no two of these runs have a metric in common")
        return USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="hydratune compare",
        description=__doc__,
        epilog=_EPILOG,
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help=RUN_FORMS)
    parser.add_argument("--experiment", metavar="NAME", help="MLflow experiment of the runs to compare")
    parser.add_argument("--last", type=int, metavar="N", help="maximum number of runs, newest first [default: all]")
    parser.add_argument("--all", action="store_true", help="include sweeps and unfinished runs")
    parser.add_argument("--metric", metavar="NAME", help="metric to compare, e.g. accuracy [default: the objective]")
    parser.add_argument("--uri", help="MLflow store [default: the store of this directory]")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="output as JSON")
    output.add_argument(
        "--csv", action="store_true", help="output as CSV, one line per run; the verdict goes to stderr"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="file for a plot of learning curves and differences"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="file for a report with the verdict, tables, and figures"
    )
    return parser


def _check_file(flag: str, path: Path, suffix: str) -> None:
    """Raise ConfigError before anything is read if the file could not be written in the end."""
    if path.suffix.lower() != suffix:
        raise ConfigError(invalid_value(flag, f"a file name that ends with {suffix}", repr(str(path))))
    if not path.parent.is_dir():
        raise ConfigError(directory_not_found(flag, path.parent))
    check_place(flag, path.parent)
