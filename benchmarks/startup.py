"""How long a user waits before anything runs, beside a bare `import hydra`: `make bench`.

The commands run in turn, round after round, so that a busy neighbour slows all of them; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HYDRATUNE = str(Path(sys.executable).with_name("hydratune"))
COMMANDS = {
    "import hydra": [sys.executable, "-c", "import hydra"],
    "hydratune --help": [HYDRATUNE, "--help"],
    "hydratune --cfg job": [HYDRATUNE, "--cfg", "job"],
    "a config mistake": [HYDRATUNE, "trainer.args.learning_rat=1"],
    "import transformers.Trainer": [sys.executable, "-c", "from transformers import Trainer"],
}
RESULTS = Path(__file__).parent / "results" / "startup.json"


def seconds(command: list[str], directory: str) -> float:
    """Wall-clock seconds of one process."""
    start = time.perf_counter()
    subprocess.run(command, cwd=directory, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Times every command, prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds + 1):
            for name, command in COMMANDS.items():
                took = seconds(command, directory)
                if number:  # the first round fills the disk cache
                    times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["import hydra"]
    table = Table("command", "median s", "x import hydra", title=f"start-up, {rounds} rounds")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / base:.1f}")
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"rounds": rounds, "seconds": medians, "python": platform.python_version(), "machine": platform.machine()}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
