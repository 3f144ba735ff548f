"""Start-up time of commands, and time to the first training step: `python benchmarks/startup.py`.

It times commands that do not train, compared with a bare `import hydra`. It then times hydratune with default settings,
and the same training as a script (see scripts.py), from the start of the command to the first step. The rows of both
have been tokenized before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import contest
from common import HYDRATUNE, finish, in_turn, parse, parser
from rich.table import Table

COMMANDS = {
    "import hydra": [sys.executable, "-c", "import hydra"],
    "hydratune --help": [HYDRATUNE, "--help"],
    "hydratune --cfg job": [HYDRATUNE, "--cfg", "job"],
    "a config error": [HYDRATUNE, "trainer.args.learning_rat=1"],
    "import transformers.Trainer": [sys.executable, "-c", "from transformers import Trainer"],
}
BY_HAND, OURS = "by hand", "hydratune"
ROWS = 64


def seconds(command: list[str], directory: str) -> float:
    """Wall-clock seconds of one process; that of an error fails."""
    start = time.perf_counter()
    subprocess.run(command, cwd=directory, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Times every command, prints the tables and writes them as JSON."""
    given = parse(parser(__doc__, rounds=7))
    with tempfile.TemporaryDirectory() as directory:
        material = contest.prepare(Path(directory) / "rows", None, ROWS)
        commands = {name: partial(seconds, command, directory) for name, command in COMMANDS.items()}
        trainings = {
            BY_HAND: partial(contest.script, material, "by_hand", epochs=1),
            OURS: partial(contest.hydratune_default, material, 1),
        }
        in_turn(1, {**commands, **trainings})  # fills the caches
        times = in_turn(given.rounds, commands)
        firsts = {
            name: [one.to_first_step for one in rounds] for name, rounds in in_turn(given.rounds, trainings).items()
        }
    start = table("command", times, "import hydra", f"start-up, {given.rounds} rounds")
    first = table("to the first step", firsts, BY_HAND, f"{ROWS} rows, {given.rounds} rounds")
    finish(__file__, given.out, [start, first], {"seconds": times, "seconds_to_first_step": firsts})


def table(what: str, times: dict[str, list[float]], base: str, title: str) -> Table:
    """Medians, and as multiples of one of them."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    made = Table(what, "median s", f"x {base}", title=title)
    for name, median in medians.items():
        made.add_row(name, f"{median:.2f}", f"{median / medians[base]:.1f}")
    return made


if __name__ == "__main__":
    main()
