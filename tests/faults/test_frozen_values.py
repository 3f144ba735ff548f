"""A run uses the values that were checked, whatever changes between the check and the use."""

import pytest
from omegaconf import OmegaConf, read_write

from hydratune.config.composition import Request, compose_config, composer, without_hydra
from hydratune.config.validate import check_config
from hydratune.sweep.plan import make_plan
from hydratune.utils.errors import ConfigError

SECRET = "CANARY-0123"
# Texts that choose a key of `vars.names`: `now` while the config is checked, `later` while the run starts.
CHANGING = [
    "m${hydra:mode}",
    "m${oc.env:LIBRARY_SETTING,None}",
    "m${oc.decode:'${oc.env:LIBRARY_SETTING,None}'}",
    "m${oc.select:hydra.mode,None}",
]


def starts(cfg, monkeypatch):
    """Change what Hydra and libraries change when a run starts."""
    monkeypatch.setenv("LIBRARY_SETTING", "RUN")
    with read_write(cfg.hydra):
        cfg.hydra.mode = "RUN"


@pytest.mark.parametrize("text", CHANGING)
def test_value_of_a_run_is_the_checked_one(monkeypatch, text):
    """Names, switches, and files; the control is a config that was not checked."""
    monkeypatch.setenv("S1_TOKEN", SECRET)
    names = "+vars.names={mNone: fine, mRUN: other, mRunMode: {RUN: other}}"
    overrides = ["dataset=digits", names, f'+vars.m="{text}"', "name='x${vars.m}'"]
    with composer(Request()):
        checked_cfg, unchecked = (compose_config(Request(), overrides) for _ in range(2))
        before = OmegaConf.to_container(without_hydra(checked_cfg), resolve=True)
        check_config(checked_cfg)
        starts(checked_cfg, monkeypatch)
        starts(unchecked, monkeypatch)
        from hydra.core.hydra_config import HydraConfig

        HydraConfig.instance().set_config(unchecked)
        assert checked_cfg.name == before["name"]
        assert OmegaConf.to_container(without_hydra(checked_cfg), resolve=True)["name"] == before["name"]
        assert text == CHANGING[-1] or unchecked.name != before["name"]


def test_secret_that_can_change_is_an_error(compose, monkeypatch):
    """Where a secret may be, the variable is named itself, since files of a run contain the reference."""
    monkeypatch.setenv("S1_TOKEN", SECRET)
    names = "+vars.names={None: '${oc.env:S1_TOKEN}'}"
    fine = compose("dataset=digits", names, "tracking.run_name='${oc.env:S1_TOKEN}'", "+vars.x='${vars.names.None}'")
    check_config(fine)
    raw = OmegaConf.to_container(fine, resolve=False)
    assert SECRET not in str(raw)
    assert raw["tracking"]["run_name"] == "${oc.env:S1_TOKEN}"
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=digits", names, "tracking.run_name='${vars.names.${oc.env:NOPE,None}}'"))
    assert [problem.key for problem in caught.value.problems] == ["tracking.run_name"]


ESCAPED = [
    ("name", r"name='\${oc.env:HOME}'"),
    ("tracking.experiment_name", r"tracking.experiment_name='\${oc.env:HOME}'"),
    ("vars.x.0", r"+vars.x=['\${oc.env:HOME}']"),
]


@pytest.mark.parametrize(("key", "override"), ESCAPED)
def test_text_of_an_interpolation_is_an_error(compose, key, override):
    """It would be one where it is assigned to a config again."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=digits", override))
    assert key in [problem.key for problem in caught.value.problems]


@pytest.mark.parametrize("override", ["tracking.experiment_name={}", "name={}", "sweep.name={}"])
def test_text_of_an_interpolation_is_an_error_in_a_sweep(override):
    """Also where no job has it."""
    texts = ("dataset=digits", "seed=1,2", override.format(r"'\${oc.env:HOME}'"))
    with pytest.raises(ConfigError) as caught:
        make_plan(Request(texts))
    assert override.partition("=")[0] in [problem.key for problem in caught.value.problems]


@pytest.mark.parametrize(("address", "stays"), [("${oc.env:STUDY}", True), ("${oc.env:STUDY}.${seed}", False)])
def test_address_of_a_sweep_stays_a_variable(monkeypatch, address, stays):
    """It may differ between machines, and files of the workers contain their config."""
    monkeypatch.setenv("STUDY", "sqlite:///multirun/canary.db")
    _, cfg = make_plan(Request(("dataset=digits", "seed=1,2", f"sweep.storage='{address}'")))
    raw = OmegaConf.to_container(cfg.sweep, resolve=False)["storage"]
    assert (raw == address) == stays
    assert cfg.sweep.storage.startswith("sqlite:///multirun/canary.db")
