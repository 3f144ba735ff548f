"""Pages of the docs site that other files generate: README, CONTRIBUTING, commands, configs, and the Python API."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from hydratune import data, models, tasks
from hydratune.cli.main import VERBS, dispatch
from hydratune.config.options import options, shipped_dir

ROOT = Path(__file__).parents[1]
# Page of the repository -> page of the site.
_MOVED = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "vulnerabilities.md", "README.md": "index.md"}
_PACKAGES = (tasks, models, data)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        **{page: _of_repository(name) for name, page in _MOVED.items()},
        "reference/cli.md": "\n\n".join(_commands()),
        "reference/configs.md": "\n\n".join(_configs()),
        "reference/api.md": "\n\n".join(_api()),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def _of_repository(name: str) -> str:
    """Return a page of the repository with links to the pages of the site."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for old, new in _MOVED.items():
        text = text.replace(f"]({old}", f"]({new}")
    return text


def _commands() -> Iterator[str]:
    """Yield the help of each command."""
    yield "# Command line"
    for arguments in (["--help"], *([verb, "--help"] for verb in VERBS if verb != "train")):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            dispatch(arguments)
        yield f"## hydratune {arguments[0]}" if arguments != ["--help"] else "## hydratune"
        yield f"```text\n{output.getvalue().strip()}\n```"


def _configs() -> Iterator[str]:
    """Yield each option of each config group: its file, which describes every key."""
    yield "# Config groups"
    yield "Each option is a YAML file. The command below its summary uses it."
    group = None
    for option in options(shipped_dir()):
        if option.group != group:
            group = option.group
            yield f"## {group}"
        yield f"### {option.name} {{ #{group.replace('/', '-')}-{option.name} }}"
        yield f"```yaml\n{option.path.read_text(encoding='utf-8').strip()}\n```"


def _api() -> Iterator[str]:
    """Yield the names that configs and Python code may use."""
    yield "# Python API"
    yield "Configs name these classes as `_target_`, and Python code can use them."
    yield "::: hydratune.models.adapters.load"
    for package in _PACKAGES:
        yield f"## {package.__name__}"
        for name in package.__all__:
            yield f"::: {_definition(package.__file__, name)}"


def _definition(file: str, name: str) -> str:
    """Return the module that defines a name which a package exports lazily, and the name."""
    pattern = rf"from ([\w.]+) import [^)\n]*\b{name}\b|from ([\w.]+) import \([^)]*\b{name}\b"
    match = re.search(pattern, Path(file).read_text(encoding="utf-8"))
    assert match  # each exported name is imported for type checkers
    return f"{match[1] or match[2]}.{name}"
