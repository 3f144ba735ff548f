"""Text for users and developers avoids words that no ML engineer would use."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "conf/**/*.yaml", "tests/messages/*.txt", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
SCRIPTS = sorted(path for folder in ("benchmarks", "docs") for path in (ROOT / folder).glob("*.py"))
SOURCES = sorted(path for folder in ("src", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
# A word to avoid -> what to write.
AVOID = {
    r"mend(s|ed|ing)?": "fix",
    r"mistakes?": "error",
    r"anew|go(es)? on|went on|cut off": "again, resume, interrupted",
    r"kin|beside|neighbou?rs?": "similar, next to",
    r"as it comes|from nothing": "by default, from scratch",
    r"new and untrained|few weights": "newly initialized, few parameters",
    r"reads from left to right|reads both sides": "decoder-only, bidirectional encoder",
    r"in parts of|more than chance": "sharded or micro-batches, statistically significant",
    r"drawn by its": "log-uniform",
    r"the same bits": "bit-exact",
    r"expected .*, got none": "KEY is required",
    r"(token|optim|normal|initial|serial|recogn|summar|organ|minim|maxim|general)is(e|es|ed|ing|ation)": "-ize",
    r"colou?rs?(?<!color)(?<!colors)|behaviou?rs?(?<!behavior)(?<!behaviors)|favou?rs?(?<!favor)(?<!favors)": "-or",
    r"labell(ed|ing)|cancelled|licence|centre|catalogue|whilst": "American spelling",
}
# Names that do not say what they hold.
VAGUE = {
    *("asked", "done", "found", "given", "got", "kept", "known", "made", "one", "ones", "own"),
    *("said", "settled", "shown", "told", "wanted"),
}


def unwanted(text):
    """Yield each word to avoid, with what to write."""
    for pattern, instead in AVOID.items():
        for match in re.finditer(rf"\b({pattern})\b", text, re.IGNORECASE):
            yield f"{match[0]!r}: write {instead}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_and_configs_use_standard_words(path):
    """README, docs, configs, and stored error messages."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert [f"{number}: {word}" for number, line in lines for word in unwanted(line)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_messages_docstrings_and_comments_use_standard_words(path):
    """Every string and comment of the source and the benchmarks."""
    with path.open("rb") as file:
        tokens = [
            token for token in tokenize.tokenize(file.readline) if token.type in (tokenize.STRING, tokenize.COMMENT)
        ]
    assert [f"{token.start[0]}: {word}" for token in tokens for word in unwanted(token.string)] == []


def names(code):
    """Yield the names that a module defines: variables, arguments, functions, and classes."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_of_scripts_say_what_they_hold(path):
    """Names in the benchmarks and in the scripts of the docs."""
    assert sorted({*names(path.read_text())} & VAGUE) == []


@pytest.mark.parametrize(
    "code", ["found = 1", "[0 for one in x]", "def said(): pass", "lambda given: 0", "class made: 0"]
)
def test_names_finds_vague_names(code):
    """The positive control of the test above."""
    assert {*names(code)} & VAGUE


@pytest.mark.parametrize("text", ["a mistake", "it goes on", "optimisation", "Labelled", "behaviour", "colour"])
def test_unwanted_finds(text):
    """The patterns match whole words in any case."""
    assert [*unwanted(text)]


@pytest.mark.parametrize("text", ["mistaken", "color", "behavior", "amend", "labeled", "precise", "a promise"])
def test_unwanted_leaves(text):
    """Other words may contain them."""
    assert [*unwanted(text)] == []
