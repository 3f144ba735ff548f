"""Configs with random targets and interpolations: what passes the check runs no code, whatever it resolves to."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config.composition import Request, compose_config, composer
from hydratune.config.instantiate import build
from hydratune.config.validate import check_config
from hydratune.utils.errors import ConfigError

EVIL = {"_target_": "shutil.copy", "src": "source", "dst": "canary"}
TEXTS = {"text": "{_target_: shutil.copy, src: source, dst: canary}", "name": "shutil.copy", "harmless": 3}
TARGETS = ["shutil.copy", "os.system", "pathlib.Path.touch", "${vars.name}", "${oc.select:vars.name}",
           "hydratune.utils.files.write_text", "transformers.TrainerCallback", "hydratune.data.Digits",
           "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"]  # fmt: skip
LEAVES = [1, None, True, "x", "${vars.evil}", "${vars.all}", "${vars.text}", "${vars.harmless}", "${vars.name}", "???",
          "${oc.decode:${vars.text}}", "${oc.select:vars.evil}", "${oc.dict.values:vars.all}", "${oc.env:EVIL}",
          "${oc.create:${vars.text}}", r"\${vars.evil}", "${oc.deprecated:vars.evil}", "${vars.${vars.name}}",
          "${now:%S}"]  # fmt: skip
PLACES = ["hydra.callbacks.x", "hydra.launcher", "hydra.launcher.x", "hydra.sweeper", "hydra.job.name", "hydra.env.x",
          "hydra.job_logging.handlers.x", "hydra.hydra_logging.formatters.x", "dataset", "dataset.columns", "task",
          "task.metrics", "task.loss", "task.class_weights", "task.extra_metrics.x", "task.extra_metrics", "hardware", "hardware.x", "sweep.sampler", "sweep.pruner_args", "tracking", "tracking.tags",
          "trainer.callbacks.x", "adapter", "model.config", "vars.x", "name", "objective"]  # fmt: skip
BUILT = ("dataset", "task", "hardware", "sweep", "tracking", "adapter")

leaf = st.sampled_from(LEAVES)
key = st.sampled_from(["x", "src", "dst", "self", "command", "path", "text", "_args_", "_partial_", "()", "class"])
arguments = st.fixed_dictionaries({"src": st.just("source"), "dst": st.just("canary")})
node = st.builds(lambda target, more: {"_target_": target, **more}, st.sampled_from(TARGETS), arguments)
tree = st.recursive(
    leaf | node, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(key, inner, max_size=3), max_leaves=5
)


@pytest.fixture
def base(own_directory, monkeypatch):
    """The default config; a payload would make the file `canary` from `source`."""
    (own_directory / "source").write_text("")
    monkeypatch.setenv("EVIL", TEXTS["text"])
    with composer(request := Request()):
        yield compose_config(request, list(request.overrides))


def used(cfg: DictConfig) -> None:
    """Do with each node what Hydra and a run do."""
    for name in ("callbacks", "launcher", "sweeper"):
        found = OmegaConf.select(cfg, f"hydra.{name}")
        for one in found.values() if name == "callbacks" and isinstance(found, DictConfig) else [found]:
            instantiate(one)
    for name in BUILT:
        build(cfg[name])


def changed(cfg: DictConfig, place: str, value: Any) -> DictConfig:
    """A copy with a value at a key, as a config file could have it."""
    cfg = cfg.copy()
    OmegaConf.set_struct(cfg, False)
    OmegaConf.set_readonly(cfg.hydra, False)
    OmegaConf.update(cfg, place, value, merge=False)
    return cfg


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=tree)
@example(place="hydra.callbacks.x", value="${oc.decode:${vars.text}}")
@example(place="hydra.callbacks.x", value={**EVIL, "_target_": "${vars.name}"})
@example(place="hydra.launcher", value=EVIL)
@example(place="task.metrics", value=["${oc.decode:${oc.env:EVIL}}"])
def test_what_passes_the_check_runs_no_code(base, place, value):
    """Either the check refuses a config, or using each of its nodes leaves the canary alone."""
    cfg = base if place.startswith("vars") else changed(base, "vars", TEXTS)
    try:
        cfg = changed(cfg, place, value)
        check_config(cfg)
    except (ConfigError, OmegaConfBaseException, AssertionError, ValueError):
        return
    with contextlib.suppress(Exception):  # whatever a class refuses
        used(cfg)
    assert not Path("canary").exists()


@pytest.mark.parametrize("place", ["hydra.callbacks.x", "task"])
def test_the_canary_would_be_seen(base, place):
    """The positive control: a node that nobody checks is run by Hydra."""
    instantiate(OmegaConf.select(changed(base, place, EVIL), place))
    assert Path("canary").exists()


@pytest.mark.parametrize("place", ["vars.x", "hydra.callbacks.x", "hydra.launcher"])
def test_a_harmless_value_passes(base, place):
    """The other control: the check does not refuse everything at such a place."""
    launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    check_config(changed(base, place, launcher if place == "hydra.launcher" else 3))
