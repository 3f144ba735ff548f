"""A secret that the user types is not printed again: terminals are shared, and logs of CI are public."""

from pathlib import Path

import pytest

from hydratune.utils import typed_secrets
from hydratune.utils.provenance import redact
from processes import hydratune

SECRET = "hunter2horse"
OTHER = "paddock7mare"
RUN = "0123456789abcdef0123456789abcdef"
# Arguments after `hydratune dataset=digits`: keys that exist and do not, in each form in which a value can be wrong.
FORMS = [
    f"password={SECRET}(",
    f"password=[{SECRET}",
    f"password={{{SECRET}",
    f"password=choice({SECRET}",
    f"+password=choice({SECRET},{OTHER})",
    f"password={SECRET},{OTHER}",
    f"password: {SECRET}",
    f"password ={SECRET}",
    f"password={SECRET} {OTHER}",
    f"--password={SECRET}",
    f"--hub-token={SECRET}",
    f"trainer.args.hub_token=[{SECRET}]",
    f"trainer.args.hub_token={{a: {SECRET}}}",
    f"tracking.uri.password={SECRET}",
    f"+sweep.storage.password={SECRET}",
    f"trainer.callbacks.password={SECRET}",
    f"+trainer.callbacks={{password: {SECRET}, other: {{a: 1}}}}",
    f"+trainer.callbacks={{other: {{a: 1}}, password: [{OTHER}, {SECRET}]}}",
    f"tracking.uri={{api_key: '{SECRET}'}}",
    f"dataset.labels={{a: 'password={SECRET}'",
    f"vars[password]={SECRET}",
    f"vars['password']={SECRET}",
    f"vars[0][password].x={SECRET}",
    f"db_password+={SECRET}",
    f"pass word={SECRET}",
    f"password {SECRET}",
    f"password=>{SECRET}",
    f"db@password:={SECRET}",
    f"trainer.callbacks=[{{a[password]: {SECRET}}}]",
    f"tracking.uri=me:{SECRET}@host",
    f"sweep.storage=me:{SECRET}@host/db",
    f"tracking.uri='me:{SECRET}@{OTHER}@host'",
    f"dataset.files.test=:{SECRET}@host",
]
COMMANDS = [
    *(["dataset=digits", form] for form in FORMS),
    ["dataset=digits", "password", "=", SECRET],
    ["dataset=digits", "password=", SECRET],
    ["dataset=digits", "password=my", SECRET, OTHER],
    ["dataset=digits", "-t", SECRET],
    ["dataset=digits", f"-t{SECRET}"],
    *(["push", "RUN", *flag] for flag in (["-t", SECRET], [f"-t{SECRET}"], [f"-t={SECRET}"], ["-t", "x", SECRET])),
    ["push", "RUN", "--unknown", "x", SECRET],
    ["sync", "RUN", "--uri", f"me:{SECRET}@host"],
    ["dataset=digits", "password", f"={SECRET}"],
    ["dataset=digits", "--hub-token", SECRET],
    ["dataset=digits", "--info", f"+vars.password={SECRET}"],
    ["dataset=digits", "-e", f"+vars.password={SECRET}"],
    ["dataset=digits", "--cfg", "job", "-p", f"vars.password={SECRET}"],
    ["dataset=digits", "--cfg", "job", f"+vars.password={SECRET}"],
    ["dataset=digits", "--cfg", "job", "-p", "vars", f"+vars.password={SECRET}"],
    ["dataset=digits", "--cfg", "job", "-p", "vars.password", f"+vars.password={SECRET}"],
    ["dataset=digits", "--cfg", "job", "--resolve", f"+vars.password={SECRET}", "+vars.other=${vars.password}"],
    ["dataset=digits", "--cfg", "all", f"+vars.password={SECRET}"],
    ["dataset=digits", "--cfg", "hydra", f"+vars.password={SECRET}"],
    ["dataset=digits", "--info", "all", f"+vars.password={SECRET}"],
    ["-m", "dataset=digits", f"+vars.password={SECRET},{OTHER}"],
    ["-m", "dataset=digits", f"sweep.params={{vars.password: '{SECRET},{OTHER}'}}"],
    ["init", "new", "--data", "rows.csv", f"password={SECRET}"],
    ["init", "new", "--data", "rows.csv", f"--token={SECRET}"],
    ["predict", "RUN", "rows.csv", f"model.token={SECRET}"],
    ["predict", "RUN", "rows.csv", f"--hf-token={SECRET}"],
    ["evaluate", "RUN", f"password={SECRET}"],
    ["evaluate", "RUN", f"dataset.password={SECRET}("],
    ["compare", "RUN", f"password={SECRET}"],
    ["configs", f"password={SECRET}"],
    ["configs", "show", f"password={SECRET}"],
    ["configs", "search", f"password={SECRET}"],
    ["sweep", f"password={SECRET}"],
    ["sweep", "finish", f"password={SECRET}"],
    ["check", "dataset=digits", f"password={SECRET},"],
    ["lr-find", "dataset=digits", f"password={SECRET}("],
    ["resume", "RUN", f"password={SECRET}"],
    *([verb, "RUN", "--password", SECRET] for verb in ("show", "push", "sync", "clean", "ui", "runs")),
    [f"password: {SECRET}", "dataset=digits"],
    [f"password{SECRET}", "--token", SECRET],
]


def leaks(arguments, folder):
    """Whether the command prints one of the secrets."""
    done = hydratune(*(str(folder) if word == "RUN" else word for word in arguments))
    return [text for text in (done.stdout, done.stderr) if SECRET in text or OTHER in text]


@pytest.fixture
def run(foreign_run):
    """A run, and a file of rows."""
    Path("rows.csv").write_text("text,label\n" + "a,x\nb,y\n" * 9)
    return foreign_run("sqlite:///outputs/mlflow.db")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_typed_secret_is_not_printed(run, arguments):
    """Neither by an error, its hint, nor a command that prints the config."""
    assert leaks(arguments, run) == []


def test_canary_works(run):
    """Positive control: the value of a key without the name of a secret is printed by each kind of output."""
    for arguments in (
        [f"kennel={SECRET}("],
        ["--cfg", "job", f"+vars.kennel={SECRET}"],
        ["configs", f"kennel={SECRET}"],
        ["dataset=digits", f"kennel: {SECRET}"],
    ):
        assert leaks(arguments, run)


def test_configs_of_files_are_printed_without_literal_secrets(own_directory):
    """The value of a variable is only named, and stays."""
    file = own_directory / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    vars_ = f"{{password: {SECRET}, token: '${{oc.env:X}}', note: text, api_key: '${{oc.env:X,{SECRET}}}'}}"
    file.write_text(f"# @package _global_\nvars: {vars_}\n")
    for more in (["--package", "vars"], []):
        done = hydratune("--config-dir", "conf", "experiment=mine", "--cfg", "job", *more)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout
        assert "token: ${oc.env:X}" in done.stdout
        assert "note: text" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["password=${oc.env:VARIABLE_OF_MINE}"],
        ["password=null", "token=training", "auth=short"],
        ["dataset.labels={cookie: 0}", "name=chocolate"],
        ["dataset.columns.text=token_column", "tokenizer=longer_name"],
        ["show", "session", "chocolate"],
        ["--quiet", "chocolate"],
        ["predict", "longer_name", "VARIABLE_OF_MINE", "session=short"],
        ["dataset.files.train=a:chocolate", "name=longer_name@VARIABLE_OF_MINE"],
        ["tracking.uri=https://host/chocolate@VARIABLE_OF_MINE", "note=the session at 10: longer_name"],
    ],
)
def test_other_arguments_are_no_secrets(monkeypatch, arguments):
    """Short and public words, names of variables, and values of other keys stay legible."""
    monkeypatch.setattr(typed_secrets, "values", set())
    typed_secrets.record(arguments)
    text = "VARIABLE_OF_MINE null training short chocolate token_column longer_name session"
    assert redact(text) == text
