"""No secret of the environment is written down, sent, said, or seen in the list of processes."""

import base64
import html
import itertools
import json
import logging
import os
import re
import shlex
import stat
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

import fake_hub
from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config import servers
from hydratune.config.composition import Request, compose_config, composer
from hydratune.evaluation.writer import writing
from hydratune.utils.errors import ConfigError, one_line
from hydratune.utils.logs import GuardedStream, guard_output
from hydratune.utils.provenance import redact
from processes import HYDRATUNE

# A callback that looks for secrets among the arguments of all processes, logs one, and fails if it is told to.
SPY = """
import logging, os
from pathlib import Path
from transformers import TrainerCallback

class Spy(TrainerCallback):
    def __init__(self, fails=False):
        self.fails = fails

    def on_step_end(self, args, state, control, **kwargs):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen = path.read_bytes()
            except OSError:
                continue
            if os.environ["CANARY"].encode() in seen:
                Path("seen-in-processes").write_bytes(seen)
        secret = os.environ["MY_PASSWORD"]
        logging.getLogger("spy").warning("logged in with %s", secret)
        if self.fails:
            raise RuntimeError(f"401 for {secret} at {os.environ['TRACKING']} with {os.environ['HF_TOKEN']}")
"""


@pytest.fixture
def secret(own_directory, monkeypatch):
    """A word that no other test has; it is a part of each secret."""
    (own_directory / "spy.py").write_text(SPY)
    word = f"canary{uuid.uuid4().hex}"
    for name, value in {
        "CANARY": word,
        "HF_TOKEN": f"hf_{word}",
        "MY_PASSWORD": f"password-{word}",
        "TRACKING": f"http://me:{word}@127.0.0.1:1",
        "STORAGE": f"postgresql://me:{word}@127.0.0.1:1/studies",
        "PYTHONPATH": str(own_directory),
        "HYDRATUNE_ALLOW": "spy",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return word


GIVEN = [
    "trainer.args.hub_token=${oc.env:HF_TOKEN}",
    "+vars.password=${oc.env:MY_PASSWORD}",
    "+vars.note=${oc.env:MY_PASSWORD}",  # a name that says nothing
    "+vars.text='see ${oc.env:MY_PASSWORD}'",
    "+trainer.callbacks.spy._target_=spy.Spy",
    "trainer.args.max_steps=1",
]


def hydratune(*arguments):
    """Runs the console script."""
    return subprocess.run([HYDRATUNE, *arguments], capture_output=True, text=True, check=False)


def leaks(secret, *done):
    """Where the secret is: files here, and what was said."""
    files = [path for path in Path().rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    return files + [text for one in done for text in (one.stdout, one.stderr) if secret in text]


@pytest.mark.slow
def test_a_run_and_a_push(toy, own_directory, secret, monkeypatch):
    """Neither the run, its store, its artifacts and checkpoints, nor a push that fails, nor the card on the hub."""
    with fake_hub.serve(own_directory / "hub") as server:
        server.faults = {r"POST .*/commit/main": [403]}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        pushed = ["trainer.args.push_to_hub=true", "trainer.args.hub_model_id=me/tiny"]
        first = hydratune(*toy, *GIVEN, *pushed, "hydra.run.dir=run")
        assert first.returncode == 1, first.stderr
        assert "hydratune push run --to me/tiny" in first.stderr
        assert "Traceback" not in first.stderr
        assert "logged in with ***" in (own_directory / "run" / "hydratune.log").read_text()
        again = hydratune("push", "run", "--to", "me/tiny")
        assert again.returncode == 0, again.stderr
    assert "README.md" in server.pushed
    assert not [name for name, content in server.pushed.items() if secret.encode() in content]
    names = {path.name for path in own_directory.rglob("*")}
    assert {"trainer_state.json", "mlflow.db", "config.yaml", "overrides.yaml", "hydra.yaml"} <= names
    assert leaks(secret, first, again) == []
    assert "note: '***'" in (own_directory / "run" / "config.yaml").read_text()
    # all of it is for the owner alone, besides
    assert stat.S_IMODE((own_directory / "run").stat().st_mode) == 0o700
    assert stat.S_IMODE((own_directory / "outputs" / "mlflow.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((own_directory / "outputs" / "mlartifacts").stat().st_mode) == 0o700


@pytest.mark.slow
def test_a_run_of_two_processes_that_fails(toy, own_directory, secret):
    """Neither the traceback, what the processes tell each other, nor a store that does not answer."""
    two = ["hardware=ddp", "hardware.nproc_per_node=2", "hardware.device=cpu", "hardware.threads=1"]
    mine = [one for one in toy if not one.startswith("hardware")]
    fails = ["+trainer.callbacks.spy.fails=true", "tracking.uri=${oc.env:TRACKING}", "hydra.run.dir=run"]
    done = hydratune(*mine, *two, *GIVEN, *fails)
    assert done.returncode == 1, done.stderr
    assert "401 for *** at http://***@127.0.0.1:1 with ***" in done.stderr
    assert "401 for ***" in (own_directory / "run" / "hydratune.log").read_text()
    assert (own_directory / "run" / "ranks" / "job.yaml").is_file()
    assert leaks(secret, done) == []


@pytest.mark.slow
def test_a_sweep(toy, own_directory, secret):
    """Neither the study, the report, trials in processes of their own, nor a storage that does not answer."""
    sweep = [
        "-m",
        *toy,
        *GIVEN,
        "+trainer.callbacks.spy.fails=false,true",
        "sweep.process_per_trial=true",
        "sweep.max_retries=0",
    ]
    done = hydratune(*sweep, "hydra.sweep.dir=s", "tracking=none")
    assert {path.name for path in own_directory.rglob("*")} >= {"study.db", "sweep.json", "metrics.json"}, done.stderr
    assert "401 for ***" in done.stdout + done.stderr
    down = hydratune(*sweep, "hydra.sweep.dir=t", "sweep.storage=${oc.env:STORAGE}", "tracking=none")
    assert down.returncode == 2, down.stderr
    assert [line for line in down.stderr.splitlines() if line.startswith("error: ") and "database" in line], down.stderr
    assert leaks(secret, done, down) == []


def test_what_is_typed_is_refused(compose, secret):
    """A secret in an override is in the list of processes: it is told, with the way around, and not repeated."""
    from hydratune.config.validate import check_config

    for override in (f"trainer.args.hub_token=hf_{secret}", f"+vars.api_key={secret}", f"+vars.x=password-{secret}",
                     f"tracking.uri=http://me:{secret}@host", f"tracking.uri='http://me:{secret}@host/${{oc.env:HOME}}'",
                     f"sweep.storage=postgresql://me:{secret}@host/db",
                     f"sweep.storage='postgresql://host/db?user=me&password={secret}'",
                     f"+vars.x='${{oc.env:NOPE,password-{secret}}}'",
                     f"+vars.x='${{oc.env:NOPE,${{oc.env:NO,hf_{secret}}}}}'",
                     f"tracking.uri='${{oc.env:NOPE,\"http://me:{secret}@host\"}}'",
                     f"tracking.uri='http://me:${{oc.env:NOPE,{secret}}}@host'"):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            check_config(compose(override))
        assert [problem.key for problem in caught.value.problems] == [override.lstrip("+").partition("=")[0]]
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://${oc.env:A}:${oc.env:B}@host", "http://me:${oc.env:A}@host", "${oc.env:TRACKING}", "http://host"]
)
def test_references_are_none(compose, monkeypatch, uri):
    """What the environment holds may be named, wherever in an address."""
    from hydratune.config.validate import check_config

    for name, value in (("A", "me12345678"), ("B", "pw12345678"), ("TRACKING", "http://x")):
        monkeypatch.setenv(name, value)
    servers.confirm_typed([f"tracking.uri='{uri}'"])
    check_config(compose(f"tracking.uri='{uri}'"))


def test_check_config_accepts_a_database_user_without_password(compose):
    """PostgreSQL can take the password from ~/.pgpass or identify the user by the socket."""
    from hydratune.config.validate import check_config

    typed = "sweep.storage=postgresql://me@host/db"
    servers.confirm_typed([typed])
    check_config(compose(typed))


def test_what_is_masked(monkeypatch):
    """Values of variables with telling names, wherever they stand; not those of others, nor words that are short."""
    monkeypatch.setenv("MY_API_KEY", "0123456789")
    monkeypatch.setenv("PGPASSWORD", "01234567890123")
    monkeypatch.setenv("X_TOKEN", "short")
    monkeypatch.setenv("KEYBOARD", "qwertyuiop")
    assert redact(["a 0123456789 b", "01234567890123", "short qwertyuiop"]) == ["a *** b", "***", "short qwertyuiop"]
    assert redact({"pad_token": "0123456789", "note": json.dumps({"x": "0123456789"})}) == {
        "pad_token": "***", "note": '{"x": "***"}'}  # fmt: skip


def test_logs_are_masked(monkeypatch, caplog, capsys):
    """Messages, arguments and tracebacks; a message that does not fit its arguments is left to `logging`."""
    monkeypatch.setenv("MY_API_KEY", "0123456789")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = logging.getLogRecordFactory()
    try:
        guard_output()
        try:
            raise ValueError(os.environ["MY_API_KEY"])
        except ValueError:
            logging.getLogger("x").exception("with %s", "0123456789")
            sys.excepthook(*sys.exc_info())  # as Python does if nobody catches it
        record = logging.getLogger("x").makeRecord("x", 20, "f", 1, "%d", ("no number",), None)
    finally:
        logging.setLogRecordFactory(before)
    assert "ValueError: ***" in capsys.readouterr().err
    assert "with ***" in caplog.text
    assert "ValueError: ***" in caplog.text
    assert "0123456789" not in caplog.text
    assert record.msg == "%d"


SPOKEN = {
    "print": "print('PRINT', os.environ['S1_TOKEN'])",
    "stderr": "sys.stderr.write('PRINT ' + os.environ['S1_TOKEN'] + chr(10))",
    "warning": "warnings.warn('PRINT ' + os.environ['S1_TOKEN'])",
    "thread": "thread = threading.Thread(target=fails); thread.start(); thread.join()",
    "finalizer": "Finalizer()",
    "traceback": "try: fails()\nexcept ValueError: traceback.print_exc()",
    "uncaught": "fails()",
    "log": "logging.getLogger('x').error('PRINT %s', os.environ['S1_TOKEN'])",
    "bar": "tqdm(range(1), desc='PRINT ' + os.environ['S1_TOKEN']).update()",
    "writelines": "sys.stdout.writelines(['PRINT ' + os.environ['S1_TOKEN']])",
    "rich": "rich.print('PRINT', os.environ['S1_TOKEN'])",
    "styles": "rich.console.Console(force_terminal=True).print('PRINT CANARY-[bold]0123[/]')",
    "rich_error": "rich.console.Console(stderr=True).print('PRINT', os.environ['S1_TOKEN'])",
}
SPEAKER = """
import logging, os, sys, threading, traceback, warnings
import rich, rich.console
from tqdm import tqdm
from hydratune.utils.logs import guard_output
{guard}
def fails(): raise ValueError("PRINT " + os.environ["S1_TOKEN"])
class Finalizer:
    def __del__(self): fails()
"""


def test_output_of_libraries_is_masked(monkeypatch):
    """Whatever prints it: a library, a warning, a thread, or a finalizer; without the guard, the secret is there."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    for guard, is_seen in (("guard_output()", False), ("", True)):
        code = [SPEAKER.format(guard=guard), *(text for name, text in SPOKEN.items() if name != "uncaught")]
        code.append(SPOKEN["uncaught"])
        done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=False)
        assert (done.stdout + done.stderr).count("PRINT") >= len(SPOKEN), done.stderr
        assert ("CANARY" in done.stdout + done.stderr) == is_seen


def test_rows_of_data_are_printed_exactly(monkeypatch, capsys):
    """The output of `predict` equals the data, whatever is in it."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    monkeypatch.setattr(sys, "stdout", GuardedStream(sys.stdout))
    with writing(None) as write:
        write([{"text": "CANARY-0123"}])
    print("CANARY-0123")
    assert capsys.readouterr().out == '{"text": "CANARY-0123"}\n***\n'


@pytest.mark.parametrize("secret", ["CANARY-0123", "CANARY line1\nCANARY line2", "http://me:CANARY-0123@host"])
@pytest.mark.parametrize("length", range(1, 14))
def test_secret_is_masked_before_a_message_is_cut(monkeypatch, secret, length):
    """A part of a secret would not be found later."""
    monkeypatch.setenv("S1_TOKEN", secret)
    shown = one_line(ValueError(f"{'x' * 300}{secret}"), 300 + length)
    assert [secret[:size] for size in (4, 8) if secret[:size] in shown and not secret[:size].startswith("http")] == []
    assert one_line(ValueError("x" * 400), 300) == "x" * 300


@pytest.mark.parametrize("secret", ["CANARY-0123", "CANARY/ünï+?1", "CANARYcanary"])
def test_encoded_secret_is_masked(monkeypatch, secret):
    """As hexadecimal digits, percent-encoded in either case, or as Base64 anywhere in a longer text."""
    plain, percent = secret.encode(), quote(secret, safe="")
    monkeypatch.setenv("S1_TOKEN", secret)
    texts = [plain.hex(), plain.hex().upper(), percent, re.sub("%..", lambda match: match[0].lower(), percent)]
    for before, after in itertools.product(("", "u", "me", "me:", "user:"), ("", "x", ":y")):
        text = before.encode() + plain + after.encode()
        texts += [base64.b64encode(text).decode(), base64.urlsafe_b64encode(text).decode()]
    assert [text for text in texts if "***" not in redact(f"see {text} here")] == []
    monkeypatch.delenv("S1_TOKEN")
    assert redact(texts[0]) == texts[0]  # the variable is the reason


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Basic CANARY==",
        "authorization: bearer CANARY",
        "{'Authorization': 'Bearer CANARY', 'Accept': '*/*'}",
        '{"Proxy-Authorization": "Basic CANARY"}',
        "Authorization=token CANARY",
    ],
)
def test_header_is_masked(header):
    """Libraries print the headers of a request in messages."""
    assert "CANARY" not in redact(header)
    assert redact("authorization: see the docs") == "authorization: see the docs"


@pytest.mark.parametrize(
    "name",
    ["DB_PWD", "SSHPASS", "GH_PAT", "AZURE_STORAGE_KEY", "ACCOUNT_KEY", "ENCRYPTION_KEY", "AIRFLOW__CORE__FERNET_KEY",
     "jwt_signing_key", "MASTER_KEY", "PGPASSWORD", "MYSQL_PWD", "AWS_SESSION_TOKEN", "KAGGLE_KEY", "DD_APP_KEY",
     "B2_APPLICATION_KEY", "LDAP_PW", "SMTP_PASS", "GPG_PASSPHRASE"],
)  # fmt: skip
def test_name_of_a_variable_marks_a_secret(monkeypatch, name):
    """Other names, such as that of the working directory, do not."""
    monkeypatch.setenv(name, "CANARY-0123")
    monkeypatch.setenv("PWD", "/canary/directory")
    monkeypatch.setenv("SORT_KEY", "canary-column")
    monkeypatch.setenv("SSH_PUBLIC_KEY", "canary-public")
    public = "/canary/directory canary-column canary-public"
    assert redact(f"CANARY-0123 {public}") == f"*** {public}"


# Values of a config that would write a secret into the model, a name, or a record.
WRITTEN = {
    "+model.config.id2label={token: '${oc.env:S1_TOKEN}'}": "model.config.id2label.token",
    "+model.config.problem_type.password='${oc.env:S1_TOKEN}'": "model.config.problem_type.password",
    "dataset.labels={token: '${oc.env:S1_TOKEN}', b: c}": "dataset.labels.token",
    "+sweep.params.api_key=['${oc.env:S1_TOKEN}']": "sweep.params.api_key.0",
    "+trainer.args.lr_scheduler_kwargs={password: '${oc.env:S1_TOKEN}'}": "trainer.args.lr_scheduler_kwargs.password",
    "dataset.labels=['${oc.decode:${oc.env:PIN_PASSWORD}}',b]": "dataset.labels.0",
    "trainer.args.learning_rate='${oc.decode:${oc.env:FLOAT_PASSWORD}}'": "trainer.args.learning_rate",
    "name='x${oc.decode:${oc.env:UNDERSCORE_PASSWORD}}'": "name",
    "name='${oc.decode:\"\\'${oc.env:QUOTE_PASSWORD}\\'\"}'": "name",
    "name='${now:${oc.env:PERCENT_PASSWORD}}'": "name",
    "name='${now:a${oc.env:PERCENT_PASSWORD}}'": "name",
    "name='${oc.env:NOPE,${oc.env:S1_TOKEN}}'": "name",
    "tracking.experiment_name='a ${oc.env:S1_TOKEN}'": "tracking.experiment_name",
}


def refused(compose, *typed):
    """The errors of a config: key and text of each."""
    from hydratune.config.validate import check_config

    try:
        check_config(compose("dataset=digits", *typed))
    except ConfigError as error:
        return {(problem.key, problem.text) for problem in error.problems}
    return set()


@pytest.mark.parametrize("override", WRITTEN)
def test_config_cannot_write_a_secret(compose, monkeypatch, override):
    """Neither below a key with the name of a secret, nor changed by a resolver so that masks do not find it.

    The control is the same override with a variable that is no secret. Where it has errors of its own, such as a label
    that the data does not have, the secret causes one more.
    """
    values = {"PIN": "9081726354", "FLOAT": "1234567890123e5", "UNDERSCORE": "12_345_678_90"}
    values |= {"QUOTE": "CANARY\\'0123", "PERCENT": "CANARY%Y%%0123"}
    for name, value in values.items():
        monkeypatch.setenv(f"{name}_PASSWORD", value)
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    monkeypatch.setenv("PLAIN", "0.5")
    key, plain = WRITTEN[override], re.sub(r"[A-Z0-9]+_(PASSWORD|TOKEN)", "PLAIN", override)
    assert [found for found, _ in refused(compose, override) - refused(compose, plain)] == [key]


KEYS = [
    "+vars.hf_CANARY0123456789abcdef=1",
    "+vars.a.hf_CANARY0123456789abcdef.b=1",
    "+vars.CANARY-0123=1",
    "+vars.a={CANARY-0123: 1}",
    "+vars.a=[{CANARY-0123: 1}]",
    "+tracking.tags={CANARY-0123: x}",
    "+trainer.args.lr_scheduler_kwargs={CANARY-0123: 1}",
    "+model.config.id2label={CANARY-0123: a}",
    "+sweep.params={hf_CANARY0123456789abcdef: 1}",
    "dataset.labels={CANARY-0123: a}",
]


@pytest.mark.parametrize("override", KEYS)
def test_name_of_a_key_is_no_secret(compose, monkeypatch, override):
    """Names are written as they are; the control has the same names without a secret."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    plain = re.sub("(hf_)?CANARY[-\\w]+", "plain", override)
    in_name = {text for key, text in refused(compose, override) if "CANARY" in key and "contains a secret" in text}
    assert in_name
    assert in_name.isdisjoint(text for _, text in refused(compose, plain))


# Settings that Hydra writes to hydra.yaml.
NODE = [
    "+hydra.runtime.choices.dataset2=hf_CANARY0123456789abcdef",
    "hydra.job.name=hf_CANARY0123456789abcdef",
    "hydra.job.name=CANARY-0123",
    "+hydra.job.config.override_dirname.exclude_keys=[CANARY-0123]",
    "hydra.help.app_name=CANARY-0123",
    "hydra.help.header='a CANARY-0123 b'",
]


@pytest.mark.parametrize("override", NODE)
def test_node_of_hydra_has_no_secret(compose, monkeypatch, override):
    """Choices too, which the defaults list of a config can resolve."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    key = override.lstrip("+").partition("=")[0]
    plain = re.sub("(hf_)?CANARY[-\\w]+", "plain", override)
    found = {key for key, _ in refused(compose, override) - refused(compose, plain)}
    assert found in ({key}, {f"{key}.0"})


def test_variable_that_hydra_copies_is_no_secret(compose, monkeypatch):
    """Hydra would copy its value into hydra.yaml; a variable that does not exist is an error of the user."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    texts = dict(refused(compose, "hydra.job.env_copy=[S1_TOKEN]"))
    assert "contains a secret" in texts["hydra.job.env_set.S1_TOKEN"]
    with composer(Request()), pytest.raises(ConfigError):
        compose_config(Request(), ["hydra.job.env_copy=[NO_SUCH_VARIABLE]"])


def test_choice_of_a_defaults_list_is_no_secret(own_directory, monkeypatch):
    """An option that does not exist may be optional, so that its name is written without any other error."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    monkeypatch.setenv("PLAIN", "CANARY-4567")
    file = own_directory / "conf" / "experiment" / "evil.yaml"
    file.parent.mkdir(parents=True)
    for name, keys in (("S1_TOKEN", ["hydra.runtime.choices.vars/x"]), ("PLAIN", [])):
        file.write_text(f"# @package _global_\ndefaults: [{{optional /vars/x: '${{oc.env:{name}}}'}}]\n")
        request = Request(("dataset=digits", "experiment=evil"), config_dir=own_directory / "conf")
        found = []
        with composer(request):
            try:
                checked(request)
            except ConfigError as error:
                found = [problem.key for problem in error.problems]
        assert found == keys


@pytest.mark.parametrize(
    "word", ["postgres", "hydratune", "transformers", "training", "validation", "accuracy", "pretrained", "outputs/"]
)
def test_public_word_is_not_masked(compose, monkeypatch, word):
    """A password that is a part of the shipped configs would mask all records, and all configs would be refused."""
    monkeypatch.setenv("DB_PASSWORD", word)
    assert refused(compose) == set()
    assert redact(f"see {word}") == f"see {word}"
    assert redact(f"postgresql://me:{word}@host/db") == "postgresql://***@host/db"
    monkeypatch.setenv("DB_PASSWORD", f"{word}-0123")
    assert redact(f"see {word}-0123") == "see ***"


@pytest.mark.parametrize("verb", ["sync", "ui", "compare", "evaluate", "predict"])
def test_value_of_a_typed_address_is_masked(foreign_run, monkeypatch, verb):
    """The user may have named the wrong variable; without the interpolation, its value is an ordinary text."""
    monkeypatch.setattr("hydratune.utils.env_variables.resolved_values", {})
    monkeypatch.setenv("STORE", "CANARY-0123")
    number = "0123456789abcdef0123456789abcdef"
    rest = {"sync": [foreign_run("sqlite:///outputs/x.db")], "ui": [], "compare": ["a", "b"]}.get(verb, [number])
    assert redact("CANARY-0123") == "CANARY-0123"
    with pytest.raises(ConfigError):
        dispatch([verb, *rest, *(["rows.jsonl"] if verb == "predict" else []), "--uri", "${oc.env:STORE}"])
    assert redact("CANARY-0123") == "***"


SECRETS = [
    "CANARY\\back\\slash1",
    'it\'s "CANARY" 1',
    "CANARYline1\nsecondline4",
    "CANARY/with spaces&<b>",
    "CANARYünï1",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_is_masked_however_it_is_written(monkeypatch, secret):
    """Messages, files, and addresses escape some of its characters."""
    monkeypatch.setenv("S1_TOKEN", secret)
    forms = [
        *(secret, repr(secret), repr(f"'{secret}\""), repr(f'x "{secret}"'), json.dumps({"a": secret})),
        *(json.dumps(secret, ensure_ascii=False), quote(secret), quote(secret, safe=""), quote_plus(secret)),
        *(shlex.quote(secret), html.escape(secret), " ".join(secret.split()), *secret.splitlines()),
    ]
    assert [form for form in forms if "CANARY" in redact(form)] == []


# Passwords as clients read them: the text after `@` is a host, `CANARY` is a part of each secret.
ADDRESSES = [
    "http://me:pp@CANARY-two-at@127.0.0.1:5900",
    "http://me:a/CANARY-slash@host",
    "http://me:a?CANARY-mark@host/x",
    "HTTP://ME:p@CANARY-upper@h",
    "ftp://me:p@CANARY-ftp@h",
    "s3://AKIA:CANARY-s3-key@bucket/x",
    "postgresql://me@corp:CANARY-azure@127.0.0.1:1/db",
    "postgresql://me:my CANARY space@host/db",
    "postgresql://me:a#CANARY-hash@host/db",
    "mongodb+srv://u:p@CANARY-mongo@h/d?retryWrites=true",
    "redis://:CANARY-redis@h:6379/0",
    "postgresql://h/d?password=abc#CANARY",
    "postgresql://h/d?password=it's-CANARY",
    "postgresql://h/d?password=abc CANARY",
    "postgresql://h/d?passw%6Frd=CANARY-name",
    "postgresql://h/d?conninfo=password%3DCANARY",
    "postgresql://h/d?dsn=CANARY-dsn",
    "mysql://h/d?ssl_key_password=CANARY",
    "postgresql://h/d?password1=CANARY-one",
    "https://h/x?a=1&x;password=CANARY-semicolon",
    "jdbc:postgresql://h/d?user=x&password=CANARY",
    "postgresql://h/d?password=abc&CANARY&user=me",
    "https://h/x#access_token=CANARY-fragment",
    "https://h/x?a=b#id_token=CANARY&state=1",
    "https:///me:CANARY-slashes@h/x",
    "https:/me:CANARY-slash@h/x",
    "https//me:CANARY-colon@h/x",
    "postgresql:/me:CANARY-database@h/d",
    "host=h password=CANARY-libpq",
    "host=h password='my CANARY' user=x",
    "Server=h;Database=d;User Id=u;Password=CANARY-ado;",
    "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=CANARY==;EndpointSuffix=core",
    *(
        f"https://h/x?{name}=CANARY-{name}"
        for name in ("private_token", "access_key", "client_secret", "oauth_client_secret", "refresh_token", "jwt", "key",
                     "api-key", "apikey", "X-Goog-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig")
    ),
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_password_of_an_address_is_masked(compose, address):
    """Where it is written by itself, and refused where it is typed literally."""
    from hydratune.config.validate import check_config

    assert "CANARY" not in redact(address)
    assert "CANARY" not in redact(redact(address))
    for key in ("tracking.uri", "sweep.storage", "+vars.x"):
        with pytest.raises(ConfigError) as caught:
            check_config(compose(key + '="' + address.replace('"', '\\"') + '"'))
        assert [problem.key for problem in caught.value.problems] == [key.lstrip("+")]
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("address", ADDRESSES)
def test_password_of_a_resolved_address_is_masked_everywhere(monkeypatch, address):
    """Also in the middle of a message, and in the forms in which messages and files write it."""
    monkeypatch.setattr("hydratune.utils.env_variables.resolved_values", {"STORE": address})
    for form in (address, repr(address), json.dumps({"a": address}), quote(address), quote(address, safe="")):
        assert "CANARY" not in redact(f"the request to {form} failed, see me@host"), form


def test_password_is_masked_without_its_address(monkeypatch):
    """A client names the password alone, as it has decoded it."""
    monkeypatch.setattr(
        "hydratune.utils.env_variables.resolved_values", {"STORE": "postgresql://me:CANARY%40word@host/db"}
    )
    assert redact("no role for CANARY@word or CANARY%40word") == "no role for *** or ***"


VARIABLES = {
    "HTTP_PROXY": "http://me:CANARY-12@127.0.0.1:1",
    "https_proxy": "me:CANARY-12@127.0.0.1:1",
    "HF_ENDPOINT": "https://me:one/CANARY-12@hub.example",
    "ALL_PROXY": "socks5://me:one@CANARY-12@127.0.0.1:1",
    "PIP_INDEX_URL": "https://CANARY-12@pypi.example/simple",
    "DATABASE": "postgresql://h/d?password=CANARY-12",
    "SOME_ADDRESS": "https://h/x#access_token=CANARY-12",
}


@pytest.mark.parametrize("name", VARIABLES)
def test_password_of_an_address_in_the_environment_is_masked(monkeypatch, name):
    """Libraries read these variables, and name a part of the address in messages, e.g. `Invalid port: 'PASSWORD'`."""
    text = f"invalid port: 'CANARY-12' of {VARIABLES[name]}"
    assert "CANARY-12" in redact("'CANARY-12'")  # the variable is the reason
    monkeypatch.setenv(name, VARIABLES[name])
    assert "CANARY-12" not in redact(text)


def test_token_in_an_argument_of_a_resolver_is_refused(compose):
    """It is written out like any other value."""
    from hydratune.config.validate import check_config

    with pytest.raises(ConfigError) as caught:
        check_config(compose("+vars.x='${oc.decode:hf_abcdefghijklmnopqrst123456}'"))
    assert "vars.x" in {problem.key for problem in caught.value.problems}


def test_scheme_of_an_address_is_not_masked(monkeypatch):
    """A recorded address is used again, e.g. by `sync`; a proxy with a password does not change it."""
    monkeypatch.setenv("HTTPS_PROXY", VARIABLES["HTTP_PROXY"])
    assert redact("push to http://me:other-12@mlflow.example:5000") == "push to http://***@mlflow.example:5000"


def test_public_part_of_an_address_in_the_environment_is_not_masked(monkeypatch):
    """Neither the user, who has a home directory, the host, nor a password that everybody knows."""
    monkeypatch.setenv("PROXY", "http://somebody:postgres@proxy.example:3128")
    assert redact("/home/somebody postgres proxy.example") == "/home/somebody postgres proxy.example"


@pytest.mark.parametrize(
    "text",
    [
        "see http://host/a and mail me@host.de",
        "git@github.com:me/x.git",
        "http://host/user@2x.png",
        "http://host:5000/user@2x.png",
        "http://[::1]:5000/x@y",
        "https://huggingface.co/me/x?revision=a@b&page=2",
        "postgresql://me@host/db and x@y",
        "postgresql://host:5432/db",
        "password_length=3 password=${oc.env:X}",
        "set vars.password=x",
        "sqlite:///outputs/mlflow.db?mode=ro",
        "http://h?page=1#key",
        "http://h/x#section=one",
        "see //host/a and me:x or a/b:c",
        "postgresql://h/d?sslkey=/home/me/key.pem&keepalives=1",
    ],
)
def test_address_without_a_password_is_not_masked(text):
    """Stores are found again by their addresses."""
    assert redact(text) == text
