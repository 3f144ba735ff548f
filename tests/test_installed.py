"""The wheel works without the clone: built, installed into an empty environment, run from another directory."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, cwd, **options):
    """Runs a command and returns what it printed; fails the test with its errors otherwise."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The console script of an environment that holds the wheel, and borrows the other packages from ours."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"  # a copy, so that the build leaves nothing in the clone
    copied = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split()
    for name in copied:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", wheel, cwd=folder)
    # Everything but hydratune itself comes from the environment of the tests: it takes a minute to install anew.
    # (A directory that a .pth file names has its own .pth files ignored, so our editable install stays out.)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip()
    Path(site, "borrowed.pth").write_text(f"{ours}\n")
    return folder / "env" / "bin" / "hydratune"


@pytest.mark.slow
def test_the_wheel_is_what_is_used(script, own_directory):
    """The script imports hydratune from its own environment, configs included."""
    python = script.with_name("python")
    code = "import hydratune, hydratune.conf; print(hydratune.__file__); print(hydratune.conf.__file__)"
    for line in run(python, "-c", code, cwd=own_directory).split():
        assert line.startswith(str(script.parents[1]))


@pytest.mark.slow
def test_every_config_is_in_the_wheel(script, own_directory):
    """`hydratune configs` lists the same options as in the clone."""
    ours = run(Path(sys.executable).with_name("hydratune"), "configs", cwd=own_directory)
    assert run(script, "configs", cwd=own_directory) == ours


@pytest.mark.slow
def test_trains_from_another_directory(script, toy, own_directory):
    """A run and a sweep work, and leave their files where they were started."""
    quick = ["trainer.args.max_steps=1", "tracking=none"]
    out = run(script, *toy, *quick, "hydra.run.dir=runs/x", cwd=own_directory, env=os.environ)
    assert "files    runs/x" in out
    run(script, "-m", *toy, *quick, "seed=1,2", "hydra.sweep.dir=sweep", cwd=own_directory, env=os.environ)
    assert len(list(own_directory.glob("sweep/*/metrics.json"))) == 2


@pytest.mark.slow
def test_help_works(script, own_directory):
    """`--help` and `--cfg job` find the configs in the wheel."""
    assert "hydratune dataset=local" in run(script, "--help", cwd=own_directory)
    assert "_target_: transformers.Seq2SeqTrainingArguments" in run(script, "--cfg", "job", cwd=own_directory)
