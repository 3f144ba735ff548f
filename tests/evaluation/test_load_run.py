"""Opening of finished runs."""

import pytest

from hydratune.evaluation.load_run import open_run
from hydratune.utils.errors import ConfigError


def run_with(directory, hardware):
    """Write the files that a finished run has, with a stored config of the hardware."""
    (directory / "model").mkdir()
    (directory / "metrics.json").write_text("{}")
    (directory / "config.yaml").write_text(f"hardware: {{_target_: hydratune.training.Hardware, {hardware}}}\n")
    return str(directory)


def test_open_run_of_another_version_is_one_error(tmp_path):
    """Keys that were renamed since are one error, which names them all."""
    with pytest.raises(ConfigError) as caught:
        open_run(run_with(tmp_path, "lean: true, fit_batch: true, threads: 1"), "")
    (problem,) = caught.value.problems
    assert problem.key == "RUN"
    assert [name in problem.got for name in ("hardware.lean", "hardware.fit_batch", "threads")] == [True, True, False]


def test_open_run_reads_the_keys_of_this_version(tmp_path):
    """A stored config with only known keys is returned as it is."""
    run = open_run(run_with(tmp_path, "cpu_optimizations: true"), "")
    assert run.cfg.hardware.cpu_optimizations is True
