"""No name or label holds the password of an address that the config resolves, whatever the name of the variable."""

from urllib.parse import quote

import pytest
from omegaconf import OmegaConf

from hydratune.config import servers, user_settings
from hydratune.config.composition import Request
from hydratune.config.validate import check_config
from hydratune.sweep import storage
from hydratune.sweep.plan import make_plan
from hydratune.utils.errors import ConfigError

PASSWORD = "my CANARY pass/word"
LABELS = {
    "exact": PASSWORD,
    "contained": f"a {PASSWORD} b",
    "percent-encoded": quote(PASSWORD, safe=""),
    "encoded twice": quote(quote(PASSWORD, safe=""), safe=""),
    "more spaces": PASSWORD.replace(" ", "   "),
    "no spaces": PASSWORD.replace(" ", ""),
    "plus signs": PASSWORD.replace(" ", "+"),
    "quoted": f'"{PASSWORD}"',
    "quotes inside": PASSWORD.replace(" ", "' '"),
    "escaped": PASSWORD.replace(" ", "\\ "),
    "the whole address": f"x postgresql://me:{PASSWORD}@host/db",
    "a parameter": f"x postgresql://host/db?user=me&password={PASSWORD}",
}
KEYS = [
    "dataset.labels.0",
    "name",
    "tracking.experiment_name",
    "model.config.problem_type",
    "trainer.args.hub_model_id",
]


@pytest.fixture
def secret_keys(compose, monkeypatch):
    """Return the keys whose text contains a secret, with the text in the variable TEXT."""

    def keys(text, address):
        monkeypatch.setattr("hydratune.utils.env_variables.resolved_values", {})
        monkeypatch.setenv("TEXT", text)
        monkeypatch.setenv("STORE", address)
        overrides = [f"{key}='${{oc.env:TEXT}}'" for key in KEYS[1:]]
        labels = "dataset.labels=['${oc.env:TEXT}',b]"
        with pytest.raises(ConfigError) as caught:
            check_config(compose("dataset=digits", *overrides, labels, "tracking.uri=${oc.env:STORE}"))
        return {problem.key for problem in caught.value.problems if "contains a secret" in problem.text}

    return keys


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("is_encoded", [True, False], ids=["encoded", "written"])
def test_name_with_a_password_is_an_error(secret_keys, label, is_encoded):
    """The control is the same text with an address that has another password."""
    password = quote(PASSWORD, safe="") if is_encoded else PASSWORD
    assert secret_keys(LABELS[label], f"postgresql://me:{password}@host/db") == {*KEYS}
    if "//" not in LABELS[label]:
        assert secret_keys(LABELS[label], "postgresql://me:another-one@host/db") == set()


def test_name_with_a_password_of_the_parameters_is_an_error(secret_keys):
    """SQLAlchemy reads the password from the query too."""
    assert secret_keys(PASSWORD, f"postgresql://host/db?user=me&password={quote(PASSWORD)}") == {*KEYS}


# Addresses of a config file with a secret outside the password -> the same with the secret as the password.
ADDRESSES = {
    "sqlite:///outputs/{}/mlflow.db": None,
    "SQLITE:///outputs/{}.db": None,
    "postgresql://{}@good.example:5432/db": "postgresql://:{}@good.example:5432/db",
    "postgresql://{}:x@good.example:5432/db": "postgresql+psycopg://:{}@good.example:5432/db",
    "postgresql://good.example:5432/{}": "postgresql://good.example:5432/db?password={}",
    "mysql://me:x@good.example/a{}": "mysql://me:{}@good.example/a",
    "https://good.example/{}": "https://me:{}@good.example/",
    "https://good.example/x?{}": "https://{}@good.example/",
    "https://{}:x@good.example": None,
}


@pytest.mark.parametrize("key", ["tracking.uri", "sweep.storage"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_address_has_a_secret_as_its_password_only(monkeypatch, key, address):
    """The rest becomes a path or a name; what the user typed is the user's own choice."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    servers.confirm_typed([f"--uri={uri}" for uri in ("postgresql://good.example:5432/db", "https://good.example")])
    servers.confirm_typed(["--uri=mysql://good.example/db"])
    cfg = OmegaConf.create({})
    OmegaConf.update(cfg, key, address.format("CANARY-0123"))
    assert [problem.key for problem in user_settings.stores(cfg, ())] == [key]
    assert [*user_settings.stores(cfg, [key])] == []
    OmegaConf.update(cfg, key, (ADDRESSES[address] or address).format("CANARY-0123" if ADDRESSES[address] else "plain"))
    assert [*user_settings.stores(cfg, ())] == []


@pytest.mark.parametrize("key", ["hydra.run.dir", "tracking.tags.x"])
def test_directory_or_tag_with_the_password_of_an_address_is_an_error(compose, monkeypatch, key):
    """Whatever the name of its variable, also where a secret would be masked; the control is another value."""
    servers.confirm_typed(["--uri=postgresql://host/db"])
    monkeypatch.setenv("PIN", "9081726354")  # a number: masked only as a part of the address
    typed = ["tracking.uri='postgresql://me:${oc.env:PIN}@host/db'", f"++{key}='outputs/${{oc.env:TEXT}}'"]
    monkeypatch.setenv("TEXT", "9081726354")
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=digits", *typed))
    assert [problem.key for problem in caught.value.problems] == [key]
    monkeypatch.setenv("TEXT", "8081726354")
    check_config(compose("dataset=digits", *typed))


@pytest.mark.parametrize("server", ["postgresql://evil.example/db", "mysql://evil.example/db"])
def test_study_is_not_opened_on_another_server(monkeypatch, server):
    """Clients send PGPASSWORD to any host; the control is a server that the user named."""
    monkeypatch.setattr("optuna.storages.RDBStorage", lambda *_, **__: "opened")
    with pytest.raises(ConfigError):
        storage.connect(server)
    servers.confirm_typed([f"sweep.storage={server}"])
    assert storage.connect(server) == "opened"


def test_sweep_has_no_secret_that_its_jobs_hide(own_directory, monkeypatch):
    """The name of a sweep comes from the config that its jobs share."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    file = own_directory / "conf" / "experiment" / "evil.yaml"
    file.parent.mkdir(parents=True)
    for name, keys in (("${oc.env:S1_TOKEN}", ["name"]), ("plain", [])):
        file.write_text(f"# @package _global_\nname: {name}\nsweep: {{params: {{name: 'choice(a,b)'}}}}\n")
        problems = ()
        try:
            make_plan(Request(("dataset=digits", "experiment=evil"), config_dir=own_directory / "conf"))
        except ConfigError as error:
            problems = error.problems
        assert [problem.key for problem in problems] == keys
