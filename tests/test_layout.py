"""Imports run downwards without cycles, files stay small, and importing a module loads nothing heavy."""

import ast
import functools
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
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
    "sweep/cma_es.py",
    "tasks/mask_collator.py",
    "tasks/metrics/sequence_labeling.py",
    "tasks/metrics/tables.py",
    "tracking/callbacks.py",
    "training/hardware/agent.py",
    "training/trainer/accumulation.py",
    "training/trainer/averages.py",
    "training/trainer/averaging.py",
    "training/trainer/callbacks.py",
    "training/trainer/checkpointing.py",
    "training/trainer/cpu_speedups.py",
    "training/trainer/dataloader.py",
    "training/trainer/eval_sets.py",
    "training/trainer/fsdp.py",
    "training/trainer/layers.py",
    "training/trainer/nan_guard.py",
    "training/trainer/parameter_groups.py",
    "training/trainer/sampler.py",
    "training/trainer/trainer.py",
    "training/trainer/unfreezing.py",
}
FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def module(path: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(("hydratune", *(part for part in path.with_suffix("").parts if part != "__init__")))


MODULES = {module(path): path for path in FILES}
FILE_MODULES = {name for name, path in MODULES.items() if path.name != "__init__.py"}


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the parsed source of a file."""
    return ast.parse((SOURCE / path).read_text())


@functools.cache
def imported(path: Path) -> set[str]:
    """Return the modules of hydratune that a file imports, inside functions too, or names in a string to run them."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
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


def test_imports_run_downwards():
    """No module imports from a package above its own."""
    for path in FILES:
        own = PACKAGES.index(path.parts[0]) if path.parts[0] in PACKAGES else len(PACKAGES)
        above = {f"hydratune.{package}" for package in PACKAGES[:own]}
        assert not [name for name in imported(path) if ".".join(name.split(".")[:2]) in above], path


def test_imports_have_no_cycle():
    """Files import each other in one direction; raises `graphlib.CycleError` with the files of a cycle."""
    graph = {name: imported(path) for name, path in MODULES.items()}
    assert [*graphlib.TopologicalSorter(graph).static_order()]


def test_files_are_small():
    """A file over 400 lines is no longer one idea."""
    assert not [path for path in FILES if len((SOURCE / path).read_text().splitlines()) > 400]


def test_heavy_imports_are_inside_functions():
    """Importing a module costs no heavy library."""
    for path in FILES:
        for node in tree(path).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            heavy = [name for name in modules if name.partition(".")[0] in HEAVY]
            assert not heavy or str(path) in RUNTIME, path


def test_consoles_are_created_in_one_place():
    """Only `plain_console` creates consoles, so that no text from users is read as markup."""
    for path in FILES:
        calls = (ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
        created = [call for call in calls if call.rpartition(".")[2] in ("Console", "get_console")]
        assert not created or str(path) == "utils/console.py", path


# Files that start processes: those that run Python, and git.
STARTS = {"utils/python_processes.py", "utils/provenance.py"}
_STARTING = re.compile(r"os\.((exec|spawn|posix_spawn)\w+|fork|forkpty|system|popen|startfile)")
_STARTING_MODULES = ("asyncio.subprocess", "concurrent.futures", "multiprocessing", "pty", "subprocess")
_HARMLESS = {
    "CalledProcessError",
    "DEVNULL",
    "FIRST_COMPLETED",
    "Future",
    "ThreadPoolExecutor",
    "RawValue",
    "TimeoutExpired",
}


def test_processes_are_started_in_one_place():
    """Only it protects child processes from modules of the working directory; see `protect_children`."""
    for path in FILES:
        names = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        starting = {name for name in names if _STARTING.fullmatch(name) or name == "sys.executable"}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                starting |= {name.name for name in node.names if name.name.startswith(_STARTING_MODULES)}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_STARTING_MODULES):
                starting |= {name.name for name in node.names} - _HARMLESS
        assert not starting or str(path) in STARTS, path


# Files that may write outside `utils/files.py`, which checks links: those for caches and records of the user, and for new
# temporary directories. Checkpoints are written into the directory of a run, which `files` has created or checked.
WRITES = {
    "data/cache.py",
    "data/table_cache.py",
    "models/from_config.py",
    "sweep/ray_cluster.py",
    "training/hardware/environment.py",
    "training/trainer/checkpoint_files.py",
    "utils/atomic.py",
    "utils/files.py",
    "utils/user_records.py",
}
_WRITING = re.compile(
    r".*\.(mkdir|makedirs|write_text|write_bytes|touch|unlink|symlink_to|hardlink_to|lchmod)"
    r"|os\.(link|remove|removedirs|rename|renames|replace|symlink|truncate|mkfifo)"
    r"|shutil\.(copy\w*|move|rmtree|unpack_archive|make_archive|chown)|(filelock\.)?FileLock"
)
# Databases and stores, which SQLite creates: each file checks the place of theirs.
DATABASES = {"sqlite3.connect", "MlflowClient", "RDBStorage", "optuna.storages.RDBStorage"}
CONNECTS = {"sweep/storage.py", "tracking/client.py", "tracking/relocation.py", "utils/sqlite_files.py"}


def is_writing(call: ast.Call) -> bool:
    """Return whether a call writes, renames, or removes a file."""
    name = ast.unparse(call.func)
    if name.startswith("temp_path."):  # of `atomic_write`
        return False
    if _WRITING.fullmatch(name):
        return True
    if name.endswith((".rename", ".replace")):  # those of texts and tables have two arguments, or keywords
        return len(call.args) == 1 and not call.keywords
    modes = [*call.args[0 if "." in name else 1 :][:1], *(word.value for word in call.keywords if word.arg == "mode")]
    modes = [str(mode.value) for mode in modes if isinstance(mode, ast.Constant)]
    is_open = name.rpartition(".")[2] == "open" and any(re.fullmatch(r"[a-z+]{1,3}", mode) for mode in modes)
    return is_open and any({*mode} & {*"wax+"} for mode in modes)


def test_files_of_projects_are_written_in_one_place():
    """A command that writes by itself would follow links of a cloned project; see `places.check_place`."""
    for path in FILES:
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        writing = [ast.unparse(call) for call in calls if is_writing(call)]
        assert not writing or str(path) in WRITES, path
        connecting = [call for call in calls if ast.unparse(call.func) in DATABASES]
        assert not connecting or str(path) in CONNECTS, path


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *((f"path.{call}", True) for call in ("mkdir()", "open('w')", "open(mode='ab')", "rename(x)", "replace(x)")),
        *((call, True) for call in ("open(path, 'w')", "shutil.rmtree(x)", "os.replace(a, b)", "FileLock(x)")),
        *(
            (call, False)
            for call in ("text.replace('a', 'b')", "open(path)", "path.open('rb')", "source.open(task, cv)")
        ),
    ],
)
def test_writing_is_recognized(code, expected):
    """The positive control of the test above."""
    assert is_writing(ast.parse(code, mode="eval").body) == expected


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


@pytest.mark.parametrize("page", ["faults.md", "security.md"])
def test_tables_cite_a_test_in_each_row(page):
    """Each promise of a table with a column of tests has one."""
    has_tests, promises = False, 0
    for line in (SOURCE.parents[1] / "docs" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            has_tests = False
        elif cells[-1] in ("test", "tests"):
            has_tests = True
        elif has_tests and not cells[0].startswith("---"):
            assert re.search(r"`(tests|benchmarks)/[\w/]+\.py`", cells[-1]), line
            promises += 1
    assert promises > 5


def test_run_fits_on_a_screen():
    """`run` has at most 60 lines and 15 local variables."""
    body = tree(Path("training/run.py")).body
    (run,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    assigned = {node.id for node in ast.walk(run) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert (run.end_lineno or 0) - run.lineno < 60
    assert len(assigned) <= 15


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_tests_use_public_names(path):
    """A private name of the package may change without a test that fails; modules such as `cli/_rank.py` are public."""
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = [name for node in imports if (node.module or "").startswith("hydratune") for name in node.names]
    local = {name.asname or name.name for name in names}
    used = [name.name for name in names]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in local:
            used.append(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "monkeypatch.setattr":
            target, name = (ast.unparse(argument).strip("'") for argument in node.args[:2])
            used += [name] * (target in local) + [target.rpartition(".")[2]] * target.startswith("hydratune.")
    assert not [name for name in used if re.match(r"_[^_]", name)]
