"""YAML of someone else is read in bounded time and memory, wherever it is."""

import time

import pytest
import yaml

from hydratune.cli.run_status import run_status
from hydratune.training.licenses import license_of
from hydratune.utils.errors import ConfigError
from hydratune.utils.yaml_files import parse_yaml, read_front_matter, read_yaml

PAIRS = [*zip("abcdefghijkl", "bcdefghijklm", strict=True)]
BOMBS = {
    "lists": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in PAIRS),
    "merge keys": "a: &a {x: 1, y: 2}\n"
    + "\n".join(f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}" for before, name in PAIRS),
    "a node in itself": "a: &a [*a, *a]\nlicense: *a",
    "depth": "a: " + "[" * 100_000,
    "length": "a: [" + "x, " * 2_000_000 + "]",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb_is_an_error_within_seconds(bomb, tmp_path):
    """In configs, stored configs, and model cards, whose other content is then missing."""
    text = BOMBS[bomb]
    (tmp_path / "config.yaml").write_text(f"name: x\n{text}")
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\n{text}\n---\n# Model\n")
    began = time.process_time()
    with pytest.raises((ValueError, RecursionError, yaml.YAMLError)):
        parse_yaml(text)
    with pytest.raises(ConfigError):
        read_yaml(tmp_path / "config.yaml")
    assert run_status(tmp_path).name == ""
    assert license_of(str(tmp_path)) is None
    assert time.process_time() - began < 20


@pytest.mark.parametrize("license_text", ["[a, b]", "{a: b}", "3", "&a [*a]", "", "!!python/name:os.system"])
def test_license_that_is_no_text_is_missing(tmp_path, license_text):
    """The control is a text."""
    (tmp_path / "README.md").write_text(f"---\nlicense: {license_text}\n---\n")
    assert license_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("\ufeff---\r\nlicense: mit\r\n---\r\n# x\n---\n")
    assert license_of(str(tmp_path)) == "mit"


@pytest.mark.parametrize(
    "content", [b"", b"---\n", b"---\na: [\n---\n", b"---\n- a\n---\n", b"\xff---\n", b"x\n---\na: 1\n---\n"]
)
def test_front_matter_that_is_malformed_is_empty(tmp_path, content):
    """A model card is no reason to stop."""
    (tmp_path / "README.md").write_bytes(content)
    assert read_front_matter(tmp_path / "README.md") == {}
