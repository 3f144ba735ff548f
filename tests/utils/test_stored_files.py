"""Reading of stored files that are not files."""

import os

import pytest

from hydratune.cli.run_status import run_status
from hydratune.utils.errors import ConfigError
from hydratune.utils.stored_files import read_stored
from hydratune.utils.yaml_files import read_yaml


def make_pipe(path):
    """Create a pipe, which nobody writes to."""
    os.mkfifo(path)


def link_to_device(path):
    """Create a link to a device without an end."""
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("create", [make_pipe, link_to_device])
def test_read_stored_reads_only_regular_files(tmp_path, create):
    """An archive can contain a pipe, whose reader would wait forever."""
    for name in ("config.yaml", "metrics.json", "mlflow.json"):
        create(tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"):
        read_stored(tmp_path / "metrics.json", dict[str, int])
    with pytest.raises(ConfigError):
        read_yaml(tmp_path / "config.yaml")
    assert run_status(tmp_path).score is None
