"""The pages of docs/tasks have every column and metric of their task, and examples that a run can read."""

import re
import shlex
from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.config.instantiate import build
from hydratune.config.options import options, shipped_dir

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "tasks").glob("*.md"))}
TASKS = [option.name for option in options(shipped_dir()) if option.group == "task"]


def table(page: str, heading: str) -> dict[str, str]:
    """Return first cell -> second cell of the table below a heading."""
    section = PAGES[page].partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE))


def command(page: str) -> list[str]:
    """Return the overrides of the page's command."""
    (line,) = re.findall(r"^hydratune (.+)$", PAGES[page], re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def example(own_directory):
    """Write the example of a page; return the overrides that read it as training and validation data."""

    def write(page: str) -> list[str]:
        name, text = re.findall(r"`([\w.]+)`:\n\n```\w*\n(.*?)```", PAGES[page], re.DOTALL)[0]
        (own_directory / name).write_text(text)
        for image in re.findall(r"\w+\.png", text):
            from PIL import Image

            Image.new("RGB", (8, 8)).save(own_directory / image)
        return [*command(page), f"dataset.files.validation={name}"]

    return write


def test_every_task_has_a_page():
    """The pages are in the navigation of the docs site."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert [*PAGES] == sorted(TASKS)
    assert [page for page in PAGES if f"tasks/{page}.md" not in navigation] == []


@pytest.mark.parametrize("page", TASKS)
def test_page_lists_the_columns_of_its_task(page, compose):
    """With the columns that are required."""
    columns = build(compose(f"task={page}").task).columns
    assert table(page, "Columns") == {name: "yes" if column.required else "no" for name, column in columns.items()}


@pytest.mark.parametrize("page", TASKS)
def test_page_lists_the_metrics_of_its_task(page, compose):
    """Also those that are not computed by default."""
    assert sorted(table(page, "Metrics")) == sorted(build(compose(f"task={page}").task).definitions())


@pytest.mark.parametrize("page", TASKS)
def test_command_of_the_page_is_valid(page, example, monkeypatch):
    """It composes, and finds the columns of the example."""
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda configs, *_, **__: [*configs] and "")
    assert dispatch([*example(page), "--dry-run"]) == 0


@pytest.mark.parametrize("page", TASKS)
def test_example_of_the_page_has_no_invalid_rows(page, example, compose):
    """Every row of it can be trained on."""
    cfg = compose(*example(page))
    rows = build(cfg.dataset).load(build(cfg.task))["train"]
    assert len(rows) == 2
