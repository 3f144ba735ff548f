"""Create a project with a first experiment, for a data file or the demo dataset."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf

from hydratune.config import composition
from hydratune.config.composition import Request
from hydratune.config.dataset_name import data_name
from hydratune.config.instantiate import build
from hydratune.config.options import options, shipped_dir
from hydratune.config.suggestions import suggest_option
from hydratune.config.validate import check_part
from hydratune.data.columns import column_name
from hydratune.data.label_typos import typo_warning
from hydratune.data.source_checks import SPLITS
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value
from hydratune.utils.file_suffixes import SUFFIXES, suffix
from hydratune.utils.files import make_directory, remove_tree, write_text
from hydratune.utils.places import check_place

if TYPE_CHECKING:
    from hydratune.data.local import LocalFiles
    from hydratune.tasks.inference import Inference

_EPILOG = """init infers the task and its columns from the data file, and prints them. If
several tasks or columns are possible, init lists them; choose with task=NAME or
dataset.columns.NAME=COLUMN.

Examples
  hydratune init my_project
  hydratune init my_project --data reviews.csv
  hydratune init my_project --data reviews.csv dataset.columns.label=stars

Exit codes: 0 success, 2 invalid input (nothing is created)"""
_CONF = "conf"
_EXPERIMENT = "first"
_DEMO = "wordnet_supersense"
_MIN_ROWS, _TEST_SIZE = 200, 0.1  # rows from which `init` holds out a test split, and its share
_CHOSEN = re.compile(r"(task|model)=|dataset\.[\w.]+=")
_PYPROJECT = f"""# Settings of this directory's runs
[tool.hydratune]
config-dir = "{_CONF}"  # your own configs, in addition to the shipped ones
# Packages whose classes your configs may name in _target_, e.g. ["my_package"]. After a change: hydratune trust
allow = []
"""
_GITIGNORE = "outputs/\nmultirun/\n"
_README = """# {name}

Check the config and the data, train, and list the runs:

```console
hydratune check experiment={experiment}
hydratune experiment={experiment}
hydratune runs
```

- `conf/experiment/{experiment}.yaml`: the first experiment
- `conf/`: your own options of each config group; `hydratune configs` lists them with the shipped ones
- `outputs/`: one directory for each run
"""


def main(arguments: Sequence[str]) -> int:
    """Create a project, print what was inferred, and return the exit code."""
    args = _parser().parse_args(arguments)
    directory: Path = args.directory
    _check_empty(directory)
    given = _given(args.overrides)
    if given and not args.data:
        raise ConfigError(Problem("--data", f"{KEY} is required with {args.overrides[0]}", f"add {KEY} FILE"))
    if args.data:
        files, report = _from_data(args.data, directory, given)
    else:
        files, report = {f"experiment/{_EXPERIMENT}.yaml": _demo()}, [("data", f"the demo, dataset={_DEMO}")]
    paths = _create(directory, files)
    for label, text in report:
        print(f"{label:<9} {text}")
    for path in paths:
        print(f"created   {path}")
    print(f"next      cd {directory} && hydratune check experiment={_EXPERIMENT}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="hydratune init",
        description=__doc__,
        epilog=_EPILOG,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="new or empty directory")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="task=NAME, model=NAME, or a dataset setting")
    parser.add_argument("--data", metavar="FILE", help="training file, or a directory of files or images")
    return parser


def _check_empty(directory: Path) -> None:
    """Raise ConfigError unless a directory is new or empty, since no file of the user may be replaced."""
    check_place("DIR", directory)
    if directory.is_dir() and any(directory.iterdir()):
        text = f"the directory {str(directory)!r} is not empty"
        raise ConfigError(Problem("DIR", text, "choose a new directory"))
    if not directory.is_dir() and os.path.lexists(directory):
        raise ConfigError(Problem("DIR", f"{str(directory)!r} is not a directory", "choose a new directory"))


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    """Return key -> value of settings of the user."""
    given: dict[str, Any] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        if not _CHOSEN.match(text):
            hint = "use task=NAME, model=NAME, or dataset.KEY=VALUE, and change other settings in the experiment later"
            if Path(text).exists():
                hint = f"pass the data with {shlex.join(['--data', text])}"
            raise ConfigError(Problem(key, f"hydratune init does not support {text!r}", hint))
        given[key] = _value(key, value)
    for group in ("task", "model"):
        names = [option.name for option in options(shipped_dir()) if option.group == group]
        if group in given and given[group] not in names:
            hint = suggest_option(group, given[group], names, False)
            raise ConfigError(Problem(group, f"unknown {group} {given[group]!r}", hint))
    return given


def _value(key: str, text: str) -> Any:
    """Return the value of a setting; a date stays a text."""
    try:
        value = yaml.safe_load(text)
        json.dumps(value)
    except TypeError:
        return text
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(invalid_value(key, "a value in YAML", repr(text), "quote the value")) from error
    return value


def _from_data(data: str, directory: Path, given: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the config files for a data file, and label and text of the lines that report what was inferred."""
    from hydratune.tasks.inference import infer

    dataset, notes = _read_settings(data, given)
    start = "dataset.columns."
    columns = {key.removeprefix(start): _names(value) for key, value in given.items() if key.startswith(start)}
    raw = _source(dataset).read()
    splits = [name for name in raw.split_names if name not in columns.values() and not dataset.get("split_column")]
    rows = raw.splits["train"].remove_columns(splits)
    inference = infer(rows, data, given.get("task"), columns)
    if len(splits) == 1:
        dataset["split_column"] = splits[0]
        notes.append(f"column {splits[0]} names the split of each row")
    is_one_split = [*raw.splits] == ["train"] and not dataset.get("split_column")
    if is_one_split and "test_size" not in dataset and len(rows) >= _MIN_ROWS:
        dataset["test_size"] = _TEST_SIZE
        notes.append(f"dataset.test_size={_TEST_SIZE} holds out a test split")
    model, experiment = _shipped_choices(inference.task)
    model = str(given.get("model", model))
    name = _option_name(dataset)
    files = {split: _from_project(paths, directory) for split, paths in dataset["files"].items()}
    settings = {"files": files, **{key: value for key, value in dataset.items() if key != "files"}}
    settings["columns"] = dict(inference.columns)
    counts = ", ".join(f"{len(rows):,} {split} rows" for split, rows in raw.splits.items())
    report = [
        ("data", "; ".join([f"{data}: {counts}", *notes])),
        ("task", f"{inference.task}: {inference.reason}"),
        ("columns", _columns_text(inference)),
        ("model", f"{model} (change it in the experiment)"),
    ]
    column = inference.columns.get("label")
    if isinstance(column, str) and (warning := typo_warning(Counter(map(str, rows[column][:])))):
        report.append(("warning", warning))
    if raw.bad:
        report.append(("warning", f"{len(raw.bad):,} invalid lines; `hydratune check` lists them"))
    return {
        f"dataset/{name}.yaml": _dataset_yaml(name, data, inference.task, settings),
        f"experiment/{_EXPERIMENT}.yaml": _experiment_yaml(name, data, inference.task, model, experiment),
    }, report


def _names(value: Any) -> Any:
    """Return the name of a column, or a list of names, as text; positions are numbers in YAML."""
    return [*map(column_name, value)] if isinstance(value, list) else column_name(value)


def _read_settings(data: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of `dataset` that read the files, and notes on those that were inferred.

    Raises:
        ConfigError: There is no such file, or its first row is data.
    """
    from hydratune.data.hints import is_data, no_header
    from hydratune.data.paths import PathError, expand, splits_of
    from hydratune.data.readers.csv_reader import COMPARED, first_records, tables
    from hydratune.data.readers.formats import SEPARATED

    try:
        paths = expand(data)
    except PathError as error:
        raise ConfigError(Problem("--data", error.text, error.hint)) from error
    by_split = splits_of(paths)
    is_split = len(by_split) == len(paths) > 1 and "train" in by_split
    files = {split: str(by_split[split]) for split in SPLITS if split in by_split} if is_split else {"train": data}
    dataset: dict[str, Any] = {"files": files}
    notes: list[str] = []
    for key, value in given.items():
        node, _, name = key.removeprefix("dataset.").partition(".")
        if key.startswith("dataset.files."):
            dataset["files"][name] = value
        elif key.startswith("dataset.") and node != "columns":
            dataset[node] = {**dataset.get(node, {}), name: value} if name else value
    source, name = _source(dataset), str(dataset.get("format") or SUFFIXES.get(suffix(paths[0])))
    if name in SEPARATED:
        rows = first_records(paths[0], source.options(name), COMPARED)
        if len(rows[0]) == 1 and "delimiter" not in dataset:
            candidates = [*tables(paths[0], source.options(name))]
            if len(candidates) == 1:
                dataset["delimiter"], rows = candidates[0]
                notes.append(f"delimiter {dataset['delimiter']!r}")
        if "header" not in dataset and is_data(rows):
            raise ConfigError(no_header(paths[0], rows[0], {}).under("dataset"))
    return dataset, notes


def _source(dataset: Mapping[str, Any]) -> LocalFiles:
    """Return the dataset with these settings; raise ConfigError if they or the files are invalid."""
    cfg = OmegaConf.create({"dataset": {"_target_": "hydratune.data.LocalFiles", **dataset}})
    check_part(cfg, "dataset")
    source: LocalFiles = build(cfg.dataset)
    return source


def _option_name(dataset: Mapping[str, Any]) -> str:
    """Return a name for the dataset that no shipped option has."""
    name = re.sub(r"\W", "_", data_name("local", dataset), flags=re.ASCII).lower()
    taken = {option.name for option in options(shipped_dir()) if option.group == "dataset"}
    return f"my_{name}" if name in taken or not name[0].isalpha() else name


def _from_project(value: Any, directory: Path) -> Any:
    """Return the paths of files as seen from the project: relative if they are near it, otherwise absolute."""
    if isinstance(value, list):
        return [_from_project(path, directory) for path in value]
    if not isinstance(value, str):
        return value
    prefix = "glob:" if value.startswith("glob:") else ""
    path, project = Path(os.path.abspath(value.removeprefix(prefix))), Path(os.path.abspath(directory))  # noqa: PTH100
    return prefix + (os.path.relpath(path, project) if path.is_relative_to(project.parent) else str(path))


def _shipped_choices(task: str) -> tuple[str, dict[str, Any]]:
    """Return the model of the shipped experiment of a task, which works offline, and the settings that it needs."""
    by_name = {option.name: option.path for option in options(shipped_dir()) if option.group == "experiment"}
    content = yaml.safe_load(by_name.get(f"wordnet_{task}", by_name["digits"]).read_text(encoding="utf-8"))
    model = next(str(entry["override /model"]) for entry in content["defaults"] if "override /model" in entry)
    template = (content.get("task") or {}).get("chat_template")
    settings = {"task": {"chat_template": template}} if template else {}
    return model, settings | {key: content[key] for key in ("trainer",) if key in content}


def _columns_text(inference: Inference) -> str:
    parts = []
    for role, names in inference.columns.items():
        is_one = isinstance(names, str) and names in inference.profiles
        parts.append(f"{role} = {inference.profiles[str(names)] if is_one else names}")
    unused = f"; not used: {', '.join(inference.unused)}" if inference.unused else ""
    return ", ".join(parts) + unused


def _dataset_yaml(name: str, data: str, task: str, settings: Mapping[str, Any]) -> str:
    lines = [
        f"# Rows of {_comment(Path(data).name)[:50]}",
        f"# hydratune dataset={name}",
        "# `hydratune configs show dataset/local` lists all settings.",
        "defaults:",
        "  - local",
        f"  - override /task@_global_.task: {task}",
        "",
    ]
    held_out = f"test_size: {_TEST_SIZE}\n"
    text = _dump(settings).replace(f"\n{held_out}", f"\n{held_out.rstrip()}  # for test metrics and error analysis\n")
    return "\n".join(lines) + text


def _experiment_yaml(name: str, data: str, task: str, model: str, settings: Mapping[str, Any]) -> str:
    lines = [
        "# @package _global_",
        f"# First experiment: {task} on {_comment(Path(data).name)[:30]}",
        f"# hydratune experiment={_EXPERIMENT}",
        "defaults:",
        f"  - override /dataset: {name}",
        f"  - override /model: {model} # works offline; for a checkpoint of the Hub: pretrained",
        "",
    ]
    return "\n".join(lines) + (_dump(settings) if settings else "")


def _demo() -> str:
    text = _experiment_yaml(_DEMO, _DEMO, "sequence_classification", "minilm", {})
    return text + "trainer:\n  args:\n    num_train_epochs: 3\n"


def _comment(text: str) -> str:
    """Return a text on one line of ASCII: a line break in the name of a file would end the comment."""
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in text)


def _dump(settings: Mapping[str, Any]) -> str:
    """Return settings as YAML that Hydra reads as the same values, whatever the names of columns and files are."""
    plain = json.loads(json.dumps(settings))  # lists in place of tuples
    text = "" if "${" in json.dumps(plain) else OmegaConf.to_yaml(OmegaConf.create(plain))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(Problem("--data", "names of columns and files must be UTF-8", "rename them")) from error
    if plain and OmegaConf.to_container(OmegaConf.create(text)) != plain:
        raise ConfigError(Problem("--data", "names of columns and files must not contain '${'", "rename them"))
    return text


def _create(directory: Path, configs: Mapping[str, str]) -> list[Path]:
    """Write all files, check the experiment, and return the paths; after an error, nothing remains."""
    existed = directory.exists()
    new_parents = [folder for folder in directory.parents if not folder.exists()]
    files = {f"{_CONF}/{name}": text for name, text in configs.items()}
    files |= {"pyproject.toml": _PYPROJECT, ".gitignore": _GITIGNORE}
    files["README.md"] = _README.format(name=directory.resolve().name, experiment=_EXPERIMENT)
    with _removed_after_an_error(directory, existed, new_parents):
        for name, text in files.items():
            make_directory((directory / name).parent)
            write_text(directory / name, text)
        with contextlib.chdir(directory):
            _validate()
    return [directory / name for name in files]


@contextlib.contextmanager
def _removed_after_an_error(directory: Path, existed: bool, new_parents: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # a name that is too long
            remove_tree(directory, ignore_errors=True)
        if existed:
            make_directory(directory)
        with contextlib.suppress(OSError):  # another process has created files there
            for folder in new_parents:
                folder.rmdir()
        raise


def _validate() -> None:
    """Raise ConfigError if the new experiment has errors that need no rows."""
    from hydratune.cli.train import checked

    request = Request((f"experiment={_EXPERIMENT}",), config_dir=Path(_CONF).absolute())
    with composition.composer(request):
        checked(request)
