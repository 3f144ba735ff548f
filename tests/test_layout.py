"""The house keeps its shape: imports run downwards, files stay small, nothing heavy loads at import."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "hydratune"
# From the top to the leaves; a room imports from its own line and from lines below it.
FLOORS = [
    {"cli"},
    {"resume", "sweeps", "finish"},
    {"train", "configs", "compare", "finished", "rank"},
    {"sweep"},
    {"launch", "preflight"},
    {"run", "report", "validation", "card", "push"},
    {"record", "sample", "tables", "lineage", "exact"},
    {"run_params"},
    {"facts", "composition", "dataset_name", "build", "agreement"},
    {"outside", "launchers", "logging_config"},
    {"tasks", "adapters"},
    {"data", "models"},
    {"training", "tracking", "hardware"},
    {"allowed"},
    {
        "hub",
        "env_variables",
        "files",
        "yaml_files",
        "console",
        "plotting",
        "provenance",
        "secret_formats",
        "signatures",
        "signals",
        "slurm",
        "trust",
        "utils",
        "watchdog",
        "collector",
        "kept",
        "intervals",
    },
    {"errors"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "mlflow",
    "evaluate",
    "sklearn",
    "rich",
    "peft",
    "scipy",
    "matplotlib",
    "seqeval",
    "sacrebleu",
    "rouge_score",
    "pandas",
    "huggingface_hub",
    "optuna",
    "plotly",
    "sqlalchemy",
)
# Modules that only a run imports.
RUNTIME = {
    "hardware/agent.py",
    "training/dataloader.py",
    "training/gathered.py",
    "training/guard.py",
    "training/lean.py",
    "training/parts.py",
    "training/progress.py",
    "training/sampler.py",
    "training/saving.py",
    "training/trainer.py",
    "tracking/callback.py",
    "sweep/callbacks.py",
    "sweep/evolution.py",
    "tasks/tables.py",
    "tasks/sequence_metrics.py",
    "tasks/masking.py",
}
FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """The part of the house that a module belongs to."""
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "__init__"], ids=str)
def test_imports_run_downwards(path):
    """No module imports from a floor above its own, inside functions either."""
    for node in ast.walk(ast.parse((SOURCE / path).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hydratune"):
            submodules = [alias.name for alias in node.names] if node.module == "hydratune" else []
            names = submodules or [node.module.split(".")[1]]
        for name in names:
            assert FLOOR[name] >= FLOOR[room(path)], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_small(path):
    """A file over 400 lines is no longer one idea."""
    assert len((SOURCE / path).read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in FILES if str(p) not in RUNTIME], ids=str)
def test_heavy_imports_are_inside_functions(path):
    """Importing a module costs no heavy library."""
    for node in ast.parse((SOURCE / path).read_text()).body:
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in modules if name.partition(".")[0] in HEAVY], path


@pytest.mark.parametrize("path", [p for p in FILES if str(p) != "console.py"], ids=str)
def test_consoles_are_created_in_one_place(path):
    """Only `plain_console` creates consoles, so that no text from users is read as markup."""
    calls = (node.func for node in ast.walk(ast.parse((SOURCE / path).read_text())) if isinstance(node, ast.Call))
    assert not [call for call in calls if ast.unparse(call).rpartition(".")[2] in ("Console", "get_console")]


def test_every_package_is_installed():
    """The list in pyproject.toml has every folder of code, or a wheel would lack it."""
    listed = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {".".join(("hydratune", *path.parent.parts)) for path in FILES}
    assert there <= set(listed)


@pytest.mark.parametrize("page", ["faults.md", "security.md"])
def test_pages_cite_tests_that_exist(page):
    """Each test file that a page names as evidence is there."""
    root = SOURCE.parents[1]
    cited = set(re.findall(r"`(tests/[\w/]+\.py)`", (root / "docs" / page).read_text()))
    assert cited
    assert not [name for name in sorted(cited) if not (root / name).is_file()]
