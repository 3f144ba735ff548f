"""Test scores over seeds, compared with the script of the Hugging Face course: `python benchmarks/quality.py`.

MiniLM is trained on pairs of texts from WordNet, or on `--data`, by the script of the course (three epochs, batches of
8, 5e-5, fp32, the last checkpoint) and by hydratune with default settings (the best epoch by validation). Both train
and test on the same rows. The seed determines the head, the order of rows, and dropout. The interval is Student's, of
the difference over the seeds that both have. It does not cover other rows. `--kinds` measures other options, e.g.
`--kinds hydratune 'hydratune model.freeze=[embeddings]'`.

Each training writes a file to results/quality/, named after its rows and its config, and is not repeated. So the same
command resumes an interrupted benchmark, which takes hours on one core. Remove the folder after a change of the code.
Seconds are those of the whole command, from its start to its end.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import contest
from common import finish, parse, parser
from contest import Material, Timed
from rich.markup import escape
from rich.table import Table

from hydratune.utils.files import write_json
from hydratune.utils.stats import mean_interval

COURSE, OURS = "course", "hydratune"
EPOCHS = {COURSE: 3}  # of the course; ours has its own default
SCORES = {"test_accuracy": "accuracy", "test_f1": "F1", "seconds": "seconds"}
EVALUATIONS = "evaluations"  # seconds from the start of the command, and accuracy on the validation set
QUICK_ROWS = 64


def train(kind: str, material: Material, seed: int) -> Timed:
    """One whole training, tested."""
    if kind == COURSE:
        return contest.script(material, COURSE, epochs=EPOCHS[COURSE], seed=seed, settings={}, test=True, validate=True)
    changed = kind.split()[1:]
    return contest.hydratune([*material.overrides, f"seed={seed}", "tracking=none", *changed], folder=material.folder)


def file(kind: str, material: Material, seed: int) -> str:
    """The name of the file of a training, which holds a hash of its rows and of its config."""
    name, *changed = kind.split()
    digest = hashlib.sha256("\n".join([str(EPOCHS) if kind == COURSE else material.config, *changed]).encode())
    for split in contest.SPLITS:
        digest.update((material.folder / f"{split}.jsonl").read_bytes())
    return f"{name}-{digest.hexdigest()[:12]}-seed{seed}.json"


def measure(
    material: Material, kinds: list[str], seeds: list[int], folder: Path
) -> dict[str, dict[int, dict[str, Any]]]:
    """Contestant -> seed -> scores and evaluations, of trainings that were done before or are done now, in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    said: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in kinds}
    for seed in seeds:
        for kind, of_seeds in said.items():
            kept = folder / file(kind, material, seed)
            if not kept.is_file():
                done = train(kind, material, seed)
                scores = {**done.scores, "seconds": done.usage.seconds}
                evaluations = [(one["at"] - done.usage.began, one["eval_accuracy"]) for one in done.evaluations]
                write_json(kept, {**{name: scores[name] for name in SCORES}, EVALUATIONS: evaluations})
                print(f"{kind}, seed {seed}: {kept.read_text()}", flush=True)
            of_seeds[seed] = json.loads(kept.read_text())
    return said


def table(said: dict[str, dict[int, dict[str, Any]]], rows: dict[str, int]) -> tuple[Table, dict[str, Any]]:
    """A row a seed, then means with their intervals, and the differences; these as numbers as well."""
    title = f"{rows['train']:,} rows to train on, {rows['test']:,} to test"
    made = Table("seed", *(escape(f"{kind}: {name}") for kind in said for name in SCORES.values()), title=title)
    kinds = list(said)
    first, last = kinds[0], kinds[-1]
    seeds = list(said[first])
    for seed in seeds:
        made.add_row(str(seed), *(f"{said[kind][seed][name]:.4g}" for kind in said for name in SCORES))
    if len(seeds) < 2:
        return made, {}
    means = {kind: {name: spread([of[s][name] for s in seeds]) for name in SCORES} for kind, of in said.items()}
    made.add_section()
    made.add_row("mean", *(in_words(means[kind][name]) for kind in said for name in SCORES))
    differences = {
        name: spread([said[last][seed][name] - said[first][seed][name] for seed in seeds]) for name in SCORES
    }
    empty = [""] * len(SCORES) * (len(said) - 1)
    made.add_row(escape(f"{last} - {first}"), *empty, *(in_words(differences[name]) for name in SCORES))
    return made, {"means": means, "differences": differences}


def spread(values: list[float]) -> list[float | None]:
    """The mean and the 95% interval, whose limits are None below three seeds."""
    found = mean_interval(values)
    return [found.value, found.low, found.high]


def in_words(values: list[float | None]) -> str:
    """For example `0.785 (0.771 to 0.799)`, or `0.785` where there is no interval."""
    mean, low, high = values
    return f"{mean:.4g}" if low is None or high is None else f"{mean:.4g} ({low:.4g} to {high:.4g})"


def main() -> None:
    """Trains what is not done yet, prints the table and writes it as JSON."""
    made = parser(__doc__, rounds=1)
    contest.add_options(made, None)
    made.add_argument(
        "--kinds", nargs="+", default=[COURSE, OURS], help="contestants; the difference is last minus first"
    )
    made.add_argument("--seeds", default="1,2,3,4,5", help="seeds, one round each")
    given = parse(made)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    limit = QUICK_ROWS if given.quick else None
    with tempfile.TemporaryDirectory() as folder:
        material = contest.prepare(Path(folder) / "rows", given.data, limit or given.rows, held_out=limit)
        rows = {s: len((material.folder / f"{s}.jsonl").read_text().splitlines()) for s in contest.SPLITS}
        said = measure(material, given.kinds, seeds, given.out / "quality")
    shown, numbers = table(said, rows)
    data = str(given.data or "wordnet_pairs")
    finish(__file__, given.out, [shown], {"data": data, "rows": rows, "seeds": said, **numbers})


if __name__ == "__main__":
    main()
