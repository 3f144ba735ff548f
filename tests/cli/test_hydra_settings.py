"""Hydra's own settings: those that a run cannot use are refused by `--dry-run` and by the run, before anything is written."""

from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.utils.errors import ConfigError

UNUSABLE = {
    "hydra.job.chdir=true": "hydra.job.chdir",
    "hydra.run.dir=.": "hydra.run.dir",
    "hydra.run.dir=''": "hydra.run.dir",
    "hydra.run.dir=file": "hydra.run.dir",
    "hydra.run.dir=file/below": "hydra.run.dir",
    "hydra.run.dir='${nope}'": "hydra.run.dir",
    "hydra.run.dir='a\0b'": "hydra.run.dir",
    f"hydra.run.dir={'a' * 300}": "hydra.run.dir",
    "hydra.output_subdir=null": "hydra.output_subdir",
    "hydra.mode=MULTIRUN": "hydra.mode",
    "hydra.verbose=5": "hydra.verbose",
    "hydra.searchpath=[nope]": "hydra.searchpath",
    "hydra.searchpath=[file://nope]": "hydra.searchpath",
    "hydra.job_logging.root.level=NOPE": "hydra.job_logging.root.level",
    "hydra.job_logging.version=2": "hydra.job_logging.version",
    "hydra.job_logging.handlers=null": "hydra.job_logging.handlers",
    "hydra.job_logging.root.handlers=[nope]": "hydra.job_logging.root.handlers",
    "hydra.hydra_logging.root.level=1.5": "hydra.hydra_logging.root.level",
}


@pytest.mark.parametrize("flags", [["--dry-run"], [], ["-m", "seed=1,2", "--dry-run"]], ids=["dry", "run", "sweep"])
@pytest.mark.parametrize("override", UNUSABLE, ids=lambda text: text[:40])
def test_unusable_setting_is_refused(override, flags, own_directory):
    """One error names the key, and nothing is created."""
    (own_directory / "file").write_text("")
    before = sorted(Path(own_directory.parent).rglob("*"))
    with pytest.raises(ConfigError) as caught:
        dispatch([*flags, "tracking=none", override])
    assert [problem.key for problem in caught.value.problems] == [UNUSABLE[override]]
    assert sorted(Path(own_directory.parent).rglob("*")) == before


@pytest.mark.parametrize("where", [".", "file"])
def test_unusable_sweep_directory_is_refused(where, own_directory):
    """A sweep needs a directory of its own too."""
    (own_directory / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        dispatch(["-m", "seed=1,2", "--dry-run", f"hydra.sweep.dir={where}"])
    assert [problem.key for problem in caught.value.problems] == ["hydra.sweep.dir"]


def test_failure_of_hydra_is_no_traceback(monkeypatch, own_directory):
    """Whatever Hydra raises before the run begins is one error, and its directory is removed."""
    monkeypatch.setattr("hydratune.cli.hydra_main.configure_log", lambda *_: [].remove("logging"))
    with pytest.raises(ConfigError) as caught:
        dispatch(["tracking=none"])
    assert [problem.key for problem in caught.value.problems] == ["hydra"]
    assert list(own_directory.iterdir()) == []


@pytest.mark.parametrize("override", ["hydra/job_logging=none", "hydra/job_logging=disabled", "hydra.verbose=[a]"])
def test_usable_settings_are_accepted(override):
    """Hydra's own options stay available."""
    assert dispatch(["--dry-run", override]) == 0
