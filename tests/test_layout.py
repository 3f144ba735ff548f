"""Imports run downwards without cycles, files stay small, and importing a module loads nothing heavy."""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "hydratune"
# From the top to the bottom; a package imports from itself and from those after it.
PACKAGES = ["cli", "sweep", "evaluation", "training", "tasks", "models", "data", "tracking", "config", "utils"]
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
    "sweep/callbacks.py",
    "sweep/samplers.py",
    "tasks/mask_collator.py",
    "tasks/metrics/sequence_labeling.py",
    "tasks/metrics/tables.py",
    "tracking/callbacks.py",
    "training/hardware/agent.py",
    "training/trainer/accumulation.py",
    "training/trainer/callbacks.py",
    "training/trainer/checkpointing.py",
    "training/trainer/cpu_speedups.py",
    "training/trainer/dataloader.py",
    "training/trainer/fsdp.py",
    "training/trainer/nan_guard.py",
    "training/trainer/sampler.py",
    "training/trainer/trainer.py",
}
FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def module(path: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(("hydratune", *(part for part in path.with_suffix("").parts if part != "__init__")))


MODULES = {module(path): path for path in FILES}
FILE_MODULES = {name for name, path in MODULES.items() if path.name != "__init__.py"}


def imported(path: Path) -> set[str]:
    """Return the modules of hydratune that a file imports, inside functions too, or names in a string to run them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((SOURCE / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & {*MODULES} or {node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value} & FILE_MODULES
    return names & {*MODULES} - {module(path)}


def test_top_level_has_only_packages():
    """Code is in the packages of the list."""
    assert sorted({path.parts[0] for path in FILES}) == sorted([*PACKAGES, "__init__.py"])


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_downwards(path):
    """No module imports from a package above its own."""
    own = PACKAGES.index(path.parts[0]) if path.parts[0] in PACKAGES else len(PACKAGES)
    above = {f"hydratune.{package}" for package in PACKAGES[:own]}
    assert not [name for name in imported(path) if ".".join(name.split(".")[:2]) in above]


def test_imports_have_no_cycle():
    """Files import each other in one direction; raises `graphlib.CycleError` with the files of a cycle."""
    graph = {name: imported(path) for name, path in MODULES.items()}
    assert [*graphlib.TopologicalSorter(graph).static_order()]


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


@pytest.mark.parametrize("path", [p for p in FILES if str(p) != "utils/console.py"], ids=str)
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


def test_run_fits_on_a_screen():
    """`run` has at most 60 lines and 15 local variables."""
    body = ast.parse((SOURCE / "training/run.py").read_text()).body
    (run,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    assigned = {node.id for node in ast.walk(run) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert (run.end_lineno or 0) - run.lineno < 60
    assert len(assigned) <= 15
