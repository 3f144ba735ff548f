"""Every script and command on the pages about engines is run by a test on that engine, or has a reason why not."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from engines.pages import commands, overrides, scripts
from hydratune.cli.main import dispatch

TESTS = Path(__file__).parents[1]
SLURM, RAY, HOSTS = "engines/test_slurm.py", "engines/test_ray.py", "engines/test_hosts.py"
# Page -> heading of a script, or a command in the text -> the tests that run it.
RUN = {
    "slurm.md": {
        "One node": f"{SLURM}::test_time_limit",
        "Several nodes": f"{SLURM}::test_several_nodes",
        "Sweeps": "engines/test_slurm_sweeps.py::test_sweep_of_preempted_and_canceled_workers",
        "srun --ntasks=2 hydratune": f"{SLURM}::test_tasks_that_would_train_copies",
        "scontrol requeue": f"{SLURM}::test_time_limit",
        "scontrol requeue JOBID": f"{SLURM}::test_time_limit",
        "scancel JOBID": f"{SLURM}::test_canceled_job_is_not_requeued",
        "scancel --signal=USR1 JOBID": f"{SLURM}::test_several_nodes",
    },
    "ray.md": {
        "Local cluster": "sweep/test_sweep_launchers.py::test_ray",
        "Running cluster": f"{RAY}::test_sweep_survives_a_killed_node",
        "Running cluster (2)": f"{RAY}::test_sweep_survives_a_killed_node",
    },
    "several_machines.md": {
        "Start and resume": f"{HOSTS}::test_run_resumes_after_a_signal_and_after_a_killed_host",
        "Start and resume (2)": f"{HOSTS}::test_run_resumes_after_a_signal_and_after_a_killed_host",
        "Slurm, PyTorchJob, and other launchers": f"{HOSTS}::test_run_waits_while_the_link_is_down",
    },
}
# Command -> why no test runs it.
NOT_RUN = {
    "pip install 'hydratune[slurm,postgresql]'": "installs from an index; `make install` installs the same packages",
    "pip install 'hydratune[ray,postgresql]'": "installs from an index; `make install` installs the same packages",
}


@pytest.mark.parametrize("page", RUN)
def test_page_has_no_command_that_no_test_runs(page):
    """A new or changed command needs a test on the engine."""
    assert {*scripts(page), *commands(page)} - NOT_RUN.keys() == RUN[page].keys()


@pytest.mark.parametrize("test", sorted({test for tests in RUN.values() for test in tests.values()}))
def test_named_tests_exist(test):
    """A test that is renamed or removed is noticed here."""
    path, _, name = test.partition("::")
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# Page -> arguments of the command to which the overrides in its text are added.
ARGUMENTS = {
    "slurm.md": ["-m", "seed=1,2", "hydra/launcher=submitit_slurm"],
    "ray.md": ["-m", "seed=1,2", "hydra/launcher=ray"],
    "several_machines.md": ["hardware=ddp"],
}


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="hydra-ray-launcher is not installed")
@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_submitit_launcher"), reason="submitit is not installed")
@pytest.mark.parametrize(("page", "words"), [(page, words) for page in ARGUMENTS for words in overrides(page)])
def test_overrides_of_a_page_are_accepted(page, words):
    """A dry run composes and checks what the text suggests to add to a command."""
    assert dispatch([*ARGUMENTS[page], *words, "tracking=none", "--dry-run"]) == 0
