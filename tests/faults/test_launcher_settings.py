"""A config cannot run a command, open a port, or write elsewhere through the settings of a launcher."""

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from submitit.slurm.slurm import _make_sbatch_string

from hydratune.cli.main import dispatch
from hydratune.config import launchers
from hydratune.sweep.config import Sweep
from hydratune.sweep.controller import with_safe_path
from hydratune.utils.errors import ConfigError

LINE = "x\n#SBATCH --wrap=canary"
# Launcher -> key below hydra.launcher and a value that is refused.
ATTACKS = {
    "submitit_slurm": [
        *((key, LINE) for key in ("comment", "partition", "qos", "constraint", "exclude", "gres", "account", "name")),
        *(("comment", text) for text in ("a\rb", "a\u2028b", "a\x1b[2Jb", "${oc.env:HOME}", ["a"])),
        *(("mem_per_gpu", text) for text in (LINE, "1G --wrap=canary")),
        *(("submitit_folder", text) for text in ("/tmp/canary", "canary", "${hydra.sweep.dir}/../canary")),
        *(("submitit_folder", text) for text in ("${oc.env:HOME}/canary", "${hydra.sweep.dir}", "multirun/min\0e")),
        *(("submitit_folder", f"{folder}/a{LINE}") for folder in ("multirun/mine", "${hydra.sweep.dir}")),
        *(("submitit_folder", text) for text in ("multirun/mine/a\rb", "multirun/mine/a\u2028b")),
        *((key, "canary") for key in ("srun_args", "python", "use_srun", "stderr_to_stdout", "nodes")),
        *(("nodes", number) for number in (-1, True, 1.5)),
        ("a.b.c", "canary"),
    ],
    "submitit_local": [("submitit_folder", "/tmp/canary"), ("name", "../canary"), ("partition", "a")],
    "joblib": [
        *(("temp_folder", text) for text in ("/tmp/canary", "canary", "multirun/mine/../canary")),
        *(("pre_dispatch", text) for text in ("__import__('os')*n_jobs", "9**9**9*n_jobs", "2*n_jobs*n_jobs")),
        ("batch_size", "canary"),
        ("initializer", "canary"),
        ("backend", "a b"),
        ("mmap_mode", "${a}"),
    ],
    "ray": [
        ("ray.remote.runtime_env", {"py_executable": "canary"}),
        ("ray.init._temp_dir", "/tmp/canary"),
        ("ray.init.object_spilling_directory", "/tmp/canary"),
        ("ray.init._system_config", {"a": 1}),
        ("ray.init._tracing_startup_hook", "canary"),
        ("ray.init.logging_format", "canary"),
        ("ray.init.include_dashboard", "canary"),
        ("ray.init.resources", {"a b": 1}),
        ("ray.remote.resources", {"a": "canary"}),
        ("ray.remote.scheduling_strategy", {"node_id": "canary"}),
        *(("ray.init.dashboard_host", host) for host in ("0.0.0.0", "::", "example.org", "127.0.0.1.example.org")),  # noqa: S104
    ],
    "basic": [("n_jobs", 2)],
}  # fmt: skip
# What users set.
USUAL = {
    "submitit_slurm": {"partition": "gpu", "comment": "a study: ü", "timeout_min": 60, "gpus_per_node": 8, "mem_gb": 32,
                       "gres": "gpu:a100:2", "constraint": "[a|b]&c", "mem_per_cpu": "4G", "array_parallelism": 4,
                       "name": "mine", "account": "team-1", "submitit_folder": "multirun/mine/jobs/%j"},
    "submitit_local": {"submitit_folder": "${hydra.sweep.dir}/jobs/%j"},
    "joblib": {"n_jobs": -1, "pre_dispatch": "3 * n_jobs", "batch_size": 2, "max_nbytes": "1M", "timeout": 0.5,
               "temp_folder": "multirun/mine/joblib"},
    "ray": {"ray.remote.num_gpus": 0.5, "ray.remote.max_retries": -1, "ray.remote.resources": {"tpu": 1},
            "ray.init.num_cpus": 2, "ray.init.include_dashboard": False, "ray.init.dashboard_host": "127.0.0.1"},
    "basic": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def plugins():
    """The launchers' configs, which Hydra registers when it imports them."""
    Plugins.instance()
    return ConfigStore.instance()


def refused(store, launcher, settings):
    """The keys that are refused, without `hydra.launcher.`."""
    node = OmegaConf.create(
        OmegaConf.to_container(OmegaConf.structured(store.load(f"hydra/launcher/{launcher}.yaml").node))
    )
    for key, value in settings.items():
        OmegaConf.update(node, key, value, force_add=True)
    found = launchers.problems(OmegaConf.to_container(node, resolve=False), "multirun/mine")
    return [problem.key.removeprefix("hydra.launcher.") for problem in found]


@pytest.mark.parametrize("launcher", USUAL)
def test_usual_settings_are_accepted(plugins, launcher):
    """The defaults of each launcher, and what its users change."""
    assert refused(plugins, launcher, {}) == []
    assert refused(plugins, launcher, USUAL[launcher]) == []


@pytest.mark.parametrize(("launcher", "key", "value"), [(name, *one) for name, all_ in ATTACKS.items() for one in all_])
def test_dangerous_setting_is_refused(plugins, launcher, key, value):
    """Unknown keys, other types, control characters, expressions, folders and hosts elsewhere; exactly one error."""
    (got,) = refused(plugins, launcher, {key: value})
    assert got == key or got.startswith(f"{key}.")


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"timeout_min": 2}, ["timeout_min"]),  # the default delay is 120 seconds
        ({"timeout_min": 3}, []),
        ({"timeout_min": 2, "signal_delay_s": 30}, []),
        ({"timeout_min": 60, "signal_delay_s": 3600}, ["timeout_min"]),
        ({"timeout_min": 0}, []),  # no limit
    ],
)
def test_time_limit_is_longer_than_the_time_after_the_signal(plugins, settings, keys):
    """Otherwise, Slurm signals each worker at its start, and the sweep replaces them without end."""
    assert refused(plugins, "submitit_slurm", settings) == keys


def test_line_break_would_be_a_line_of_the_script():
    """Positive control: submitit does not escape it."""
    assert "\n#SBATCH --wrap=canary" in _make_sbatch_string(command="true", folder="x", comment=LINE)
    assert "\n#SBATCH --wrap=canary" in _make_sbatch_string(command="true", folder=LINE)


def test_directory_of_a_sweep_becomes_a_line_of_the_script():
    """The default folder is below the directory of the sweep, which a file may choose."""
    found = launchers.problems(
        {"_target_": "a.SlurmLauncher", "submitit_folder": "${hydra.sweep.dir}/.submitit/%j"}, f"multirun/{LINE}"
    )
    assert [problem.key for problem in found] == ["hydra.launcher.submitit_folder"]


@pytest.mark.parametrize("name", [LINE, "a\rb", "a\x1b[2Jb", "../a", ""])
def test_name_of_a_sweep_is_one_line(name):
    """It names the directory of the sweep."""
    assert [problem.key for problem in Sweep(name=name).check()] == ["name"]


def test_listed_key_is_accepted(plugins, monkeypatch):
    """The user's own list allows a key and what is below it."""
    monkeypatch.setenv("HYDRATUNE_ALLOW", "hydra.launcher.srun_args,hydra.launcher.ray.init._system_config")
    assert refused(plugins, "submitit_slurm", {"srun_args": ["--x"]}) == []
    assert refused(plugins, "ray", {"ray.init._system_config": {"a": 1}}) == []


def test_sweep_checks_its_launcher(own_directory):
    """`hydratune -m` refuses settings on the command line, and those of a file."""
    file = own_directory / "conf" / "experiment" / "evil.yaml"
    file.parent.mkdir(parents=True)
    file.write_text('# @package _global_\nhydra: {launcher: {comment: "x\\n#SBATCH --wrap=canary"}}\n')
    for more in (["+hydra.launcher.srun_args=[canary]"], ["--config-dir", "conf", "experiment=evil"]):
        with pytest.raises(ConfigError) as caught:
            dispatch(["-m", "seed=1,2", "hydra/launcher=submitit_slurm", "tracking=none", "--dry-run", *more])
        assert {problem.key for problem in caught.value.problems} < {
            "hydra.launcher.srun_args",
            "hydra.launcher.comment",
        }


@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local"])
def test_slurm_jobs_import_no_modules_of_the_working_directory(compose, launcher):
    """Whatever of the environment Slurm passes on. Local jobs inherit the environment of this process."""
    cfg = compose(f"hydra/launcher={launcher}", "hydra.sweep.dir=multirun/x")
    setup = with_safe_path(cfg).hydra.launcher.get("setup") or []
    script = _make_sbatch_string(command="srun true", folder="x", setup=[*setup])
    assert ("PYTHONSAFEPATH=1" in script.partition("srun")[0]) == (launcher == "submitit_slurm")
