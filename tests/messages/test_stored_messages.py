"""Error messages as the terminal shows them; `UPDATE_MESSAGES=1 pytest tests/messages` stores the current ones.

`messages.txt` has a title, a command, and what the command prints to stderr, for each message. To add a message, add a
title and a command, and update. Read the changes of the file before you commit them: would a user know what to do?

In commands, `TOY` stands for a dataset of valid files and `TINY` for a small model. In outputs, `WORK` stands for the
working directory and `MODEL` for the directory of the small model. Lines before the first error are not stored: they
are about the run that has begun.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock

from conftest import toy_rows, write_rows
from hydratune.cli.main import main
from hydratune.utils.errors import USER_ERROR
from hydratune.utils.machine import Machine
from stored_checkpoints import manifest

STORED = Path(__file__).with_name("messages.txt")
HEAD = "# {}\n$ hydratune {}\n{}"
FILES = {
    "d/semicolon.csv": "text;label\ngood film;pos\nbad film;neg\n",
    "d/latin.csv": b"text,label\ncaf\xe9,pos\nbad film,neg\ngood film,pos\n",
    "d/ragged.csv": "text,label\ngood film,pos\nbad film,neg\ngreat, great film,pos\n",
    "d/empty_cell.csv": "text,label\ngood film,pos\n,neg\nbad film,neg\n",
    "d/bad_rows.csv": "text,label\ngood film,pos\n,neg\nbad film,neg\na film,pos\nawful,neg\n,pos\n",
    "d/bad.jsonl": '{"text": "a", "label": "pos"}\n{"text": "b", "label": "neg"}\n{"text": "c", "label":\n',
    "d/numbers.json": "[1, 2]",
    "d/labels.csv": "text,label\ngood film,positive\nbad film,neg\n",
    "d/header.csv": "text,label\n",
    "d/one_label.csv": "text,label\ngood film,a\nbad film,a\nawful,a\ngreat,a\n",
    "d/reviews.xlsx": b"PK\x03\x04",
    "d/good.csv": "text,label\ngood film,pos\nbad film,neg\nawful film,neg\ngreat film,pos\n",
    "d/two_labels.csv": "review,stars,year\n" + "".join(f"good film {i},{i % 3},{i % 2}\n" for i in range(12)),
    "d/bare.csv": "1,good film\n0,bad film\n1,great film\n0,awful film\n",
    "ds.json": "{}",
    "notes/readme.txt": "notes\n",
}


def stored() -> dict[str, tuple[str, str]]:
    """Title -> command and output of each message in the file."""
    parts = re.split(r"^# ", STORED.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    sections = [re.fullmatch(r"(.*)\n\$ hydratune ?(.*)\n((?s:.*))", part) for part in parts]
    return {section[1]: (section[2], section[3].rstrip("\n")) for section in sections if section}


CASES = stored()


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two cores."""
    monkeypatch.setattr("hydratune.training.hardware.hardware.machine", lambda: Machine(cores=2, all_cores=2))


def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1,000 bytes of free memory."""
    monkeypatch.setattr("hydratune.training.hardware.hardware.free_memory", lambda: 1000)


def with_checkpoint(_: pytest.MonkeyPatch) -> None:
    """The directory of an interrupted run, whose checkpoint was trained with the seed 42."""
    run, checkpoint = Path("run/.hydra"), Path("run/checkpoints/checkpoint-28")
    for folder in (run, checkpoint):
        folder.mkdir(parents=True)
    (run / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {Path.cwd()}, config_sources: []}}}}\n")
    (run / "overrides.yaml").write_text("[tracking=none]\n")
    (checkpoint / "manifest.json").write_text(json.dumps(asdict(manifest({"seed": "42"}))))


SETUPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no GPU": without_gpu,
    "precision of a GPU": without_gpu,
    "one row does not fit into memory": without_memory,
    "resume with another seed": with_checkpoint,
}


@pytest.fixture
def printed(
    own_directory: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str, str], tuple[int, str]]:
    """Runs a command in this process; returns its exit code and what it prints to stderr."""
    for split, rows in toy_rows().items():
        write_rows(own_directory / f"{split}.jsonl", rows)
    for name, content in FILES.items():
        (own_directory / name).parent.mkdir(exist_ok=True)
        (own_directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    words = {
        "TOY": ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in toy_rows())],
        "TINY": ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}", "hardware=cpu"],
    }
    # Settings of a whole process, which ends after a command
    for name in ("gc_tuning.defer_gc", "signals.install", "guard_output"):
        monkeypatch.setattr(f"hydratune.cli.main.{name}", lambda *_: None)
    monkeypatch.setattr("hydratune.cli.main.servers.ignore_default_login", lambda: None)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("COLUMNS", "80")

    def run(title: str, command: str) -> tuple[int, str]:
        SETUPS.get(title, lambda _: None)(monkeypatch)
        arguments = [word for typed in shlex.split(command) for word in words.get(typed, [typed])]
        monkeypatch.setattr(sys, "argv", ["hydratune", *arguments])
        capsys.readouterr()
        with unchanged_logs(), pytest.raises(SystemExit) as end:
            main()
        text = re.search(r"(^error: .*)?\Z", capsys.readouterr().err, re.MULTILINE | re.DOTALL)[0]
        for path, name in ((own_directory, "WORK"), (tiny_model, "MODEL")):
            text = text.replace(str(path), name)
        return int(end.value.code or 0), "\n".join(line.rstrip() for line in text.splitlines())

    return run


@contextmanager
def unchanged_logs() -> Iterator[None]:
    """Restore the handlers of the root logger, which Hydra replaces, and close its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("title", CASES)
def test_message_is_the_stored_one(title: str, printed: Callable[[str, str], tuple[int, str]]) -> None:
    """A command prints the stored text to stderr, and exits with the code of errors that the user can fix."""
    command, expected = CASES[title]
    code, text = printed(title, command)
    if os.environ.get("UPDATE_MESSAGES"):
        store(title, text)
    else:
        assert text == expected
    assert code == USER_ERROR


def store(title: str, text: str) -> None:
    """Replace the output of one message in the file, to which other processes of pytest may write as well."""
    with FileLock(f"{STORED}.lock"):
        sections = {**stored(), title: (CASES[title][0], text)}
        parts = [HEAD.format(name, *section) for name, section in sections.items()]
        STORED.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    Path(f"{STORED}.lock").unlink(missing_ok=True)


def test_setups_have_a_message() -> None:
    """Each setup belongs to a message."""
    assert SETUPS.keys() <= CASES.keys()
