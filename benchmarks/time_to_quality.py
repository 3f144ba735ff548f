"""Seconds until hydratune scores as the script of the Hugging Face course: `python benchmarks/time_to_quality.py`.

The script and hydratune are trained in turn, over five seeds, as in `quality.py`, which keeps the results: the same
command resumes an interrupted benchmark. `--kinds` measures other options, and `--data` other rows, e.g. those of MRPC.

The target is the mean, over the seeds, of the accuracy on the validation set that the script ends with. The time to the
target is counted from the start of the command to the end of the first evaluation that reaches the target. For the
script, it is the time to its last evaluation. Evaluations are included, saving the model and the test are not.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import contest
import quality
from common import finish, parse, parser
from quality import COURSE, EVALUATIONS, OURS
from rich.markup import escape
from rich.table import Table


def time_to(target: float, evaluations: list[tuple[float, float]]) -> float | None:
    """Seconds to the first evaluation that reaches the target, or None if none does."""
    return next((seconds for seconds, score in evaluations if score >= target), None)


def results(said: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """The target, and for each contestant its times to the target, its final scores, and the difference on the test."""
    target = statistics.mean(one[EVALUATIONS][-1][1] for one in said[COURSE].values())
    whole = {seed: one[EVALUATIONS][-1][0] for seed, one in said[COURSE].items()}
    found: dict[str, Any] = {"target": target, "contestants": {}}
    for kind, seeds in said.items():
        times = whole if kind == COURSE else {seed: time_to(target, one[EVALUATIONS]) for seed, one in seeds.items()}
        reached = [times[seed] / whole[seed] for seed in seeds if times[seed] is not None]
        found["contestants"][kind] = {
            "seconds": times,
            "share": statistics.median(reached) if reached else None,
            "best": statistics.mean(max(score for _, score in one[EVALUATIONS]) for one in seeds.values()),
            "test": quality.spread([one["test_accuracy"] for one in seeds.values()]),
            "difference": quality.spread(
                [seeds[seed]["test_accuracy"] - said[COURSE][seed]["test_accuracy"] for seed in seeds]
            ),
        }
    return found


def table(found: dict[str, Any], title: str) -> Table:
    """A row for each contestant."""
    columns = (
        "seeds that reach it",
        "median s",
        "relative to the script",
        "best validation",
        "test",
        "test, difference",
    )
    made = Table("contestant", *columns, title=title)
    for kind, one in found["contestants"].items():
        times = list(one["seconds"].values())
        reached = [seconds for seconds in times if seconds is not None]
        made.add_row(
            escape(kind),
            f"{len(reached)} of {len(times)}",
            f"{statistics.median(reached):.1f}" if reached else "",
            f"{one['share']:.0%}" if reached else "",
            f"{one['best']:.4f}",
            quality.in_words(one["test"]),
            "" if kind == COURSE else quality.in_words(one["difference"]),
        )
    return made


def main() -> None:
    """Trains what is not done yet, prints the table and writes it as JSON."""
    made = parser(__doc__, rounds=1)
    contest.add_options(made, None)
    made.add_argument("--kinds", nargs="+", default=[OURS], help=f"contestants besides the script [default: {OURS}]")
    made.add_argument("--seeds", default="1,2,3,4,5", help="seeds, one round each")
    given = parse(made)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    limit = quality.QUICK_ROWS if given.quick else None
    with tempfile.TemporaryDirectory() as folder:
        material = contest.prepare(Path(folder) / "rows", given.data, limit or given.rows, held_out=limit)
        said = quality.measure(material, [COURSE, *given.kinds], seeds, given.out / "quality")
    found = results(said)
    data = given.data.name if given.data else "pairs from WordNet"
    title = f"{data}: until the accuracy on the validation set is {found['target']:.4f}"
    finish(__file__, given.out, [table(found, title)], {"data": data, **found})


if __name__ == "__main__":
    main()
