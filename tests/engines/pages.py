"""Scripts and commands of the pages docs/slurm.md, docs/ray.md, and docs/several_machines.md."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```bash\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_PROGRAMS = "hydratune|ip|pip|ray start|sbatch|scancel|scontrol|srun"
_COMMAND = re.compile(rf"`((?:{_PROGRAMS}) [^`]+)`")
_KEY = r"\+?(?:hardware|hydra|sweep|trainer)(?:[./]\w+)*"
_OVERRIDES = re.compile(rf"`({_KEY}=[^\s`]+(?:\s+{_KEY}=[^\s`]+)*)`")


class Typed(NamedTuple):
    """A script of which bash did everything but start a program.

    Attributes:
        calls: Arguments of each call of the program.
        exported: Environment variables that the script sets.
    """

    calls: list[list[str]]
    exported: dict[str, str]


def scripts(page: str) -> dict[str, str]:
    """Return the blocks of a page: `HEADING` or, from the second one below it on, `HEADING (2)` -> script."""
    found: dict[str, str] = {}
    for section in re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE):
        heading = section.partition("\n")[0]
        for number, script in enumerate(_BLOCK.findall(section), start=1):
            found[heading if number == 1 else f"{heading} ({number})"] = script
    return found


def commands(page: str) -> Iterator[str]:
    """Yield the commands in the text and the tables of a page."""
    text = _BLOCK.sub("", (DOCS / page).read_text(encoding="utf-8"))
    yield from (" ".join(command.split()) for command in _COMMAND.findall(text))


def overrides(page: str) -> list[list[str]]:
    """Return the overrides in the text and the tables of a page, as lists of those that are typed together."""
    text = _BLOCK.sub("", (DOCS / page).read_text(encoding="utf-8"))
    return [words.split() for words in sorted(set(_OVERRIDES.findall(text)))]


def command(page: str, text: str, **values: str) -> list[str]:
    """Return the words of a command that is on a page, with values for its placeholders."""
    assert text in commands(page)
    return [values.get(word, word) for word in text.split()]


def typed(script: str, program: str, **environment: str) -> Typed:
    """Let bash expand a script, and return the arguments with which it would start a program."""
    function = f'{program}() {{ printf "%s\\0" "$@" "$#"; }}'
    before = {"PATH": os.environ["PATH"], **environment}
    done = _bash(f"set -eu; {function}\n{script}\necho; env -0", before)
    output, _, variables = done.rpartition("\n")
    calls: list[list[str]] = []
    words = output.split("\0")[:-1]
    while words:
        start = len(words) - 1 - int(words[-1])
        calls.insert(0, words[start:-1])
        words = words[:start]
    after = dict(one.split("=", 1) for one in variables.split("\0") if one)
    return Typed(calls, {name: value for name, value in after.items() if name not in {*before, "PWD", "SHLVL", "_"}})


def _bash(script: str, environment: Mapping[str, str]) -> str:
    return subprocess.run(
        ["/bin/bash", "-c", script], env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
