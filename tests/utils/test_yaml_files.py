"""Config files that cannot be read, wherever a command reads them: one error that names file and line."""

from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.utils.errors import ConfigError
from hydratune.utils.yaml_files import read_overrides, read_plain_config, read_yaml

BROKEN = {
    "unclosed": (b"# Mine\nname: [a\nother: b\n", 3),
    "tab": (b"name: a\n\tother: b\n", 2),
    "duplicate": (b"name: a\nseed: 1\nname: b\n", 3),
    "latin-1": (b"# Mine\nname: caf\xe9\n", 2),
    "control character": (b"name: a\nother: \x00\n", 2),
    "python": (b"name: !!python/object:os.system x\n", 1),
    "colon": (b"name: a: b\n", 1),
}


def keys(*arguments: str) -> list[str]:
    """Run a command that must fail, and return the keys of its errors."""
    with pytest.raises(ConfigError) as caught:
        dispatch(list(arguments))
    return [problem.key for problem in caught.value.problems]


@pytest.fixture
def conf(own_directory: Path) -> Path:
    """Return an empty directory for configs of the user."""
    folder = own_directory / "my_conf"
    (folder / "experiment").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("flags", [["--dry-run"], [], ["--cfg", "job"], ["-m", "seed=1,2", "--dry-run"]], ids=" ".join)
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_option_is_named_with_its_line(kind, flags, conf):
    """An option of the user that is not valid YAML is reported by each command that composes it."""
    text, line = BROKEN[kind]
    (conf / "experiment" / "mine.yaml").write_bytes(text)
    assert keys("--config-dir", "my_conf", "experiment=mine", *flags) == [f"my_conf/experiment/mine.yaml:{line}"]


def test_all_broken_files_are_reported_together(conf):
    """Two broken files are two errors."""
    for name in ("one", "two"):
        (conf / "experiment" / f"{name}.yaml").write_text("name: [\n")
    found = keys("--config-dir", "my_conf", "experiment=[one,two]", "--dry-run")
    assert found == [f"my_conf/experiment/{name}.yaml:2" for name in ("one", "two")]


def test_unused_broken_file_is_ignored(conf):
    """Only files that a run composes must be valid."""
    (conf / "experiment" / "other.yaml").write_text("name: [\n")
    assert dispatch(["--config-dir", "my_conf", "--dry-run"]) == 0


def test_broken_primary_config(conf):
    """`--config-path` with a broken primary config names the file."""
    (conf / "train.yaml").write_text("defaults:\n  - _self_\nname: a\nname: b\n")
    assert keys("--config-path", str(conf), "--dry-run") == ["my_conf/train.yaml:4"]


@pytest.mark.parametrize(
    "text",
    [
        "defaults:\n  - /model: nope\n",
        "defaults:\n  - mine\n",
        "defaults: nope\n",
        "- a\n",
        "text\n",
        "name: ${\n",
        "defaults:\n  - override /nope: x\n",
    ],
)
def test_config_that_does_not_compose(text, conf):
    """Wrong defaults, a circle of them, and files without keys end in one error."""
    (conf / "experiment" / "mine.yaml").write_text(text)
    assert len(keys("--config-dir", "my_conf", "experiment=mine", "--dry-run")) == 1


def test_circle_of_defaults(conf):
    """Two files that include each other end in one error."""
    for one, other in (("a", "b"), ("b", "a")):
        (conf / "experiment" / f"{one}.yaml").write_text(f"defaults:\n  - {other}\n")
    assert len(keys("--config-dir", "my_conf", "experiment=a", "--dry-run")) == 1


def test_directory_in_place_of_an_option(conf):
    """A folder whose name ends in .yaml is no option."""
    (conf / "experiment" / "mine.yaml").mkdir()
    assert keys("--config-dir", "my_conf", "experiment=mine", "--dry-run") == ["experiment"]


@pytest.mark.parametrize("flag", ["--config-dir", "--config-path"])
def test_missing_config_directory(flag):
    """A directory that does not exist is named by its flag."""
    assert keys(flag, "nowhere", "--dry-run") == [flag]
    assert keys("configs", "--config-dir", "nowhere") == ["--config-dir"]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_config_of_a_finished_run(kind, own_directory):
    """`predict`, `evaluate`, and `push` name the stored file and the line."""
    text, line = BROKEN[kind]
    run = own_directory / "run"
    (run / "model").mkdir(parents=True)
    for name in ("metrics.json", "model/README.md"):
        (run / name).write_text("{}")
    (run / "config.yaml").write_bytes(text)
    for command in (["predict", "run", "rows.jsonl"], ["evaluate", "run"], ["push", "run"]):
        assert keys(*command) == [f"run/config.yaml:{line}"]


@pytest.mark.parametrize("name", ["hydra", "overrides"])
def test_broken_files_of_a_run_to_resume(name, own_directory):
    """`resume` names the stored file and the line."""
    stored = own_directory / "run" / ".hydra"
    stored.mkdir(parents=True)
    (stored / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {own_directory}, config_sources: []}}}}\n")
    (stored / "overrides.yaml").write_text("[]\n")
    (stored / f"{name}.yaml").write_text("hydra: [\n")
    assert keys("resume", "run") == [f"run/.hydra/{name}.yaml:2"]


def test_broken_overrides_of_another_run_are_passed_over(toy, own_directory):
    """`resume=auto` begins a new run beside one whose files are damaged."""
    stored = own_directory / "outputs" / "x" / "old" / ".hydra"
    stored.mkdir(parents=True)
    (stored / "overrides.yaml").write_text("- [\n")
    assert dispatch(["--dry-run", *toy, "resume=auto", "name=x"]) == 0


def test_stored_overrides_are_not_resolved(own_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a run of someone else names stays its name."""
    monkeypatch.setenv("MY_SECRET", "canary")
    path = own_directory / "overrides.yaml"
    path.write_text("- seed=1\n- 'vars.x=${oc.env:MY_SECRET}'\n")
    assert read_overrides(path) == ["seed=1", "vars.x=${oc.env:MY_SECRET}"]
    path.write_text("a: b\n")
    with pytest.raises(ConfigError):
        read_overrides(path)


@pytest.mark.parametrize("text", ["${oc.env:MY_SECRET}", "a${b}", "${b}"])
@pytest.mark.parametrize("verb", ["push", "evaluate"])
def test_stored_config_is_not_resolved(own_directory: Path, verb: str, text: str) -> None:
    """The name of a repository, for example, must not be a secret of the environment."""
    folder = own_directory / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("x")
    (folder.parent / "metrics.json").write_text("{}")
    (folder.parent / "config.yaml").write_text(f"b: 1\ntrainer: {{args: {{hub_model_id: '{text}'}}}}\n")
    assert keys(verb, "run") == ["run/config.yaml"]


def test_plain_config_is_read(own_directory: Path) -> None:
    """Positive control: text with a dollar sign alone passes."""
    (own_directory / "config.yaml").write_text("a: 'costs $5 {x}'\n")
    assert read_plain_config(own_directory / "config.yaml").a == "costs $5 {x}"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n", "a: &a {b: *a}\n"])
def test_read_yaml_refuses_aliases_that_would_fill_the_memory(tmp_path, text):
    """Ten lines stand for 10^10 values."""
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "config.yaml")
    assert len(caught.value.problems) == 1


def test_read_yaml_reads_other_aliases(tmp_path):
    """A config may repeat a node."""
    (tmp_path / "config.yaml").write_text("a: &a {x: 1}\nb: *a\n")
    assert read_yaml(tmp_path / "config.yaml") == {"a": {"x": 1}, "b": {"x": 1}}
