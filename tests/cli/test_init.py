"""`hydratune init`: a project with a first experiment that validates, or an error and no files."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from conftest import write_rows
from hydratune.cli.main import dispatch
from hydratune.config import allowlist
from hydratune.config.project import project_settings
from hydratune.utils.errors import ConfigError

ROWS = [{"id": i, "review": f"film {i} was good", "stars": 1 + i % 3} for i in range(30)]


@pytest.fixture
def reviews(own_directory):
    """A file of reviews with stars."""
    return write_rows(own_directory / "reviews.jsonl", ROWS)


def config(path):
    """The content of a YAML file of the project."""
    return yaml.safe_load(Path("proj/conf", path).read_text())


@pytest.mark.usefixtures("reviews")
def test_init_writes_an_experiment_and_reports_what_it_inferred(capsys):
    """Task, columns, and the path of the data as seen from the project."""
    assert dispatch(["init", "proj", "--data", "reviews.jsonl"]) == 0
    out = capsys.readouterr().out
    assert {"sequence_classification:", "review", "stars", "id"} <= {*out.replace(",", " ").split()}
    dataset = config("dataset/reviews.yaml")
    assert dataset["files"] == {"train": "../reviews.jsonl"}
    assert dataset["columns"] == {"text": "review", "label": "stars"}
    assert {"override /dataset": "reviews"} in config("experiment/first.yaml")["defaults"]


@pytest.mark.parametrize(("count", "size"), [(200, 0.1), (30, None)])
def test_init_holds_out_a_test_split_of_enough_rows(count, size, own_directory):
    """So that the first report has an error analysis."""
    write_rows(
        own_directory / "reviews.jsonl",
        [{**ROWS[i % 30], "id": i, "review": f"film {i} was good"} for i in range(count)],
    )
    assert dispatch(["init", "proj", "--data", "reviews.jsonl"]) == 0
    assert config("dataset/reviews.yaml").get("test_size") == size


@pytest.mark.usefixtures("reviews")
def test_init_lists_every_file_that_it_wrote(capsys):
    """Hidden files too, in the form in which they can be opened."""
    dispatch(["init", "proj", "--data", "reviews.jsonl"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    listed = {path for label, path in lines if label == "created"}
    assert listed == {str(path) for path in Path("proj").rglob("*") if path.is_file()}


@pytest.mark.usefixtures("reviews")
def test_project_finds_its_own_configs(monkeypatch, capsys):
    """In the directory of the project, without `--config-dir`; `configs` lists them."""
    dispatch(["init", "proj", "--data", "reviews.jsonl"])
    monkeypatch.chdir("proj")
    project_settings.cache_clear()
    capsys.readouterr()
    assert dispatch(["experiment=first", "--dry-run", "hardware=cpu"]) == 0
    assert dispatch(["configs", "experiment"]) == 0
    assert "first" in capsys.readouterr().out.split()


def test_init_without_data_makes_the_demo(monkeypatch):
    """It needs no file."""
    assert dispatch(["init", "proj"]) == 0
    monkeypatch.chdir("proj")
    project_settings.cache_clear()
    assert dispatch(["experiment=first", "--cfg", "job"]) == 0


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--data", "nope.csv"], "--data"),
        (["--data", "two.jsonl"], "dataset.columns.label"),
        (["--data", "reviews.jsonl", "dataset.columns.label=starz"], "dataset.columns.label"),
        (["--data", "reviews.jsonl", "task=ner"], "task"),
        (["--data", "reviews.jsonl", "sede=1"], "sede"),
        (["--data", "reviews.jsonl", "dataset.nope=1"], "dataset.nope"),
        (["task=causal_lm"], "--data"),
        (["--data", "bare.csv"], "dataset.header"),
    ],
)
@pytest.mark.usefixtures("reviews")
def test_init_creates_nothing_after_an_error(arguments, key, own_directory):
    """Not even the directory."""
    write_rows(own_directory / "two.jsonl", [{**row, "year": 2000 + row["id"] % 2} for row in ROWS])
    (own_directory / "bare.csv").write_text("1,good film\n0,bad film\n1,great film\n0,awful film\n")
    with pytest.raises(ConfigError) as caught:
        dispatch(["init", "proj", *arguments])
    assert [problem.key for problem in caught.value.problems] == [key]
    assert not Path("proj").exists()


@pytest.mark.usefixtures("reviews")
def test_init_refuses_a_directory_that_is_not_empty(own_directory):
    """And leaves it alone; an empty one is fine."""
    (own_directory / "proj").mkdir()
    assert dispatch(["init", "proj", "--data", "reviews.jsonl"]) == 0
    before = {path: path.read_bytes() for path in Path("proj").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        dispatch(["init", "proj", "--data", "reviews.jsonl"])
    assert [problem.key for problem in caught.value.problems] == ["DIR"]
    assert {path: path.read_bytes() for path in Path("proj").rglob("*") if path.is_file()} == before


def test_init_infers_delimiter_splits_and_nested_settings(own_directory):
    """A folder with a file for each split, separated by semicolons."""
    (own_directory / "d").mkdir()
    text = "review;stars\n" + "".join(f"film {i} was good;{i % 3}\n" for i in range(12))
    for split in ("train", "test"):
        (own_directory / "d" / f"{split}.csv").write_text(text)
    dispatch(["init", "proj", "--data", "d", "dataset.max_samples.train=10"])
    dataset = config("dataset/d.yaml")
    assert dataset["files"] == {"train": "../d/train.csv", "test": "../d/test.csv"}
    assert (dataset["delimiter"], dataset["max_samples"]) == (";", {"train": 10})


def test_init_takes_columns_by_position(own_directory):
    """Of a file without a header, as the hint for such a file says."""
    (own_directory / "bare.csv").write_text("1,good film\n0,bad film\n1,great film\n0,awful film\n" * 3)
    columns = ["dataset.columns.text=1", "dataset.columns.label=0"]
    assert dispatch(["init", "proj", "--data", "bare.csv", "dataset.header=false", *columns]) == 0
    assert config("dataset/bare.yaml")["columns"] == {"text": "1", "label": "0"}


def test_init_never_takes_the_name_of_a_shipped_option(own_directory):
    """The shipped one would be found first."""
    write_rows(own_directory / "digits.jsonl", ROWS)
    dispatch(["init", "proj", "--data", "digits.jsonl"])
    assert config("dataset/my_digits.yaml")["files"] == {"train": "../digits.jsonl"}


@pytest.mark.usefixtures("reviews")
def test_init_allows_no_code(monkeypatch):
    """The list of the new project is empty, and a name in it needs `hydratune trust`."""
    dispatch(["init", "proj", "--data", "reviews.jsonl"])
    monkeypatch.chdir("proj")
    text = Path("pyproject.toml").read_text()
    assert tomllib.loads(text)["tool"]["hydratune"]["allow"] == []
    Path("pyproject.toml").write_text(text.replace("allow = []", f"allow = {json.dumps(['my_package'])}"))
    project_settings.cache_clear()
    assert allowlist.user_allowlist() == ()
    assert dispatch(["trust"]) == 0
    assert allowlist.user_allowlist() == ("my_package",)


@pytest.mark.slow
@pytest.mark.usefixtures("reviews")
def test_project_trains_its_first_experiment(monkeypatch, tiny):
    """`init`, `check`, and a run in the directory of the project; the card has the command as it was typed."""
    dispatch(["init", "proj", "--data", "reviews.jsonl"])
    monkeypatch.chdir("proj")
    project_settings.cache_clear()
    monkeypatch.setattr("sys.argv", ["hydratune"])
    overrides = ["experiment=first", *tiny, "tracking=none"]
    assert dispatch(["check", *overrides]) == 0
    assert dispatch([*overrides, "hydra.run.dir=run"]) == 0
    assert Path("run/model/model.safetensors").is_file()
    card = Path("run/model/README.md").read_text()
    assert "hydratune experiment=first" in card
    assert "--config-dir" not in card


NAMES = ["a\nb", "a\n_target_: os.system", "x: y", "- x", "1e5", "null", "2020-01-01", "\x1b[31mred", "a # b", "'\"", "&a", "*a",
         "!!python/object:x", "\u2028", "{a: b}", "???", "@package"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_init_writes_names_as_plain_data(name, own_directory):
    """The names of a file and of its columns are read back as they are, or refused before anything is created."""
    file = own_directory / f"{name.replace('/', '_')}.jsonl"
    rows = [{name: f"some text number {i} of many", "label": name if i % 2 else "b"} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        assert dispatch(["init", "p", "--data", str(file)]) == 0
    except ConfigError:
        assert not Path("p").exists()
        return
    (path,) = Path("p/conf/dataset").glob("*.yaml")
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert {*content} <= {"defaults", "files", "columns"}
    assert Path("p", content["files"]["train"]).resolve() == file.resolve()
    assert name in content["columns"].values()


@pytest.mark.parametrize("value", ["[a", "{a: 1", "'", "2020-01-01", "!!x", "&a [*a]", "[" * 5000])
def test_init_refuses_malformed_values(reviews, value):
    """Nothing is created."""
    with pytest.raises(ConfigError):
        dispatch(["init", "p", "--data", str(reviews), f"dataset.columns.label={value}"])
    assert not Path("p").exists()
