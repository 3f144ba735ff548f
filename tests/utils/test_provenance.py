"""What is written down, and what must not be."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from hydratune.training.job import resolved_yaml
from hydratune.utils.provenance import cli_path, environment, git_commit, git_diff, redact
from hydratune.utils.secret_names import is_secret


@pytest.mark.parametrize(
    "key",
    [
        "trainer.args.hub_token",
        "token",
        "db.password",
        "api_key",
        "client_secret",
        "a.secret_key",
        "private_key",
        "aws_secret_access_key",
        "aws_session_token",
        "github_token",
        "db-password",
        "dbPassword",
        "apiKey",
        "pwd",
        "password.value",
        "vars.password.0",
    ],
)
def test_secret_keys(key):
    """Keys that hold secrets are known by their names."""
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        "tokenizer.pad_token",
        "eos_token",
        "include_num_input_tokens_seen",
        "max_tokens",
        "average_tokens_across_devices",
        "metric_key",
        "passwords_per_row",
    ],
)
def test_harmless_keys(key):
    """Tokens of a tokenizer are no secrets."""
    assert not is_secret(key)


def test_redact():
    """Secrets are masked wherever they stand; everything else is left as it is."""
    plain = {
        "uri": "postgresql://me:pass@host/db",
        "list": [{"hub_token": "x"}],
        "seed": 1,
        "token": None,
        "password": ["a", {"value": "b"}],
    }
    assert redact(plain) == {
        "uri": "postgresql://***@host/db",
        "list": [{"hub_token": "***"}],
        "seed": 1,
        "token": None,
        "password": "***",
    }


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("mysql+pymysql://me:pass@host/db", "mysql+pymysql://***@host/db"),
        ("postgresql://:pass@host/db", "postgresql://***@host/db"),
        ("https://token-without-a-known-form@host/x", "https://***@host/x"),
        ("git+https://me@host/x", "git+https://***@host/x"),
        ("postgresql://me:pa/ss@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg://me:p@s/s@host:5432/db", "postgresql+psycopg://***@host:5432/db"),
        ("at mysql://me:p?a#s@host/db now", "at mysql://***@host/db now"),
        ("mssql://h/d?odbc_connect=PWD%3Dpass", "mssql://h/d?odbc_connect=***"),
        ("https://host/x?X-Amz-Signature=abc&y=1", "https://host/x?X-Amz-Signature=***&y=1"),
        ("postgresql://host/db?user=me&password=pass", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?password=pass&sslmode=require", "postgresql://host/db?password=***&sslmode=require"),
    ],
)
def test_redact_masks_credentials_of_urls(url, masked):
    """Passwords, user names of HTTP, which can be tokens, and passwords among the parameters of a query."""
    assert redact(url) == masked


@pytest.mark.parametrize(
    "url", ["postgresql://me@host/db", "postgresql+psycopg://me@host:5432/db", "ssh://git@host/x", "http://host:80/a@b"]
)
def test_redact_keeps_urls_without_a_password(url):
    """A user name alone is no secret."""
    assert redact(url) == url


@pytest.mark.parametrize(
    "token",
    [
        "github_pat_" + "1a" * 20, "ghp_" + "1a" * 18, "glpat-" + "1a" * 10, "hf_" + "ab" * 17, "sk-ant-api03-" + "a1" * 20,
        "gsk_" + "1a" * 26, "xai-" + "1a" * 40, "nvapi-" + "1a" * 32, "dapi" + "0f" * 16, "AKIA" + "A1" * 8,
        "ASIA" + "A1" * 8, "AIza" + "a" * 35, "xoxb-" + "1" * 12 + "-" + "a" * 24, "npm_" + "a1" * 18,
        "pypi-" + "AgEI" * 10, "dckr_pat_" + "a1" * 14, "sk_live_" + "a1" * 12, "SG." + "a" * 22 + "." + "b" * 43,
        "hvs." + "a1" * 12, "glsa_" + "a1" * 16, "lin_api_" + "a1" * 20, "r8_" + "a1" * 19, "wandb_v1_" + "a1" * 20,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0xyz.c2lnbmF0dXJl", "12345678:AA" + "b" * 33, "whsec_" + "a1" * 16,
        "hooks.slack.com/services/T0AAA/B0BBB/" + "a1" * 12, "discord.com/api/webhooks/123456/" + "a1" * 30,
    ],
)  # fmt: skip
def test_redact_masks_tokens_of_providers(token):
    """Wherever they occur in a text."""
    assert redact(f"got '{token}', not x") == "got '***', not x"


@pytest.mark.parametrize("name", ["MINIO_SECRET_KEY", "SSH_PRIVATE_KEY", "SMTP_PASS", "KEY_PASSPHRASE", "MYSQL_PWD"])
def test_redact_masks_variables_with_telling_names(monkeypatch, name):
    """Their values are masked wherever they occur."""
    monkeypatch.setenv(name, "canary-77d0")
    assert redact("got canary-77d0") == "got ***"


def test_redact_masks_private_keys():
    """The whole block, also if its end was cut off."""
    block = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n"
    assert redact(f"a {block}") == "a ***"
    assert redact(f"a {block}-----END OPENSSH PRIVATE KEY----- b") == "a *** b"


@pytest.mark.parametrize(
    "text",
    [
        "task-based-learning-of-things",
        "sk_learn",
        "eyJ",
        "AKIA",
        "key-value",
        "a.b.c",
        "secret_santa",
        "2024-11-28 12:30",
    ],
)
def test_redact_keeps_ordinary_words(text):
    """A prefix is not a token."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("value", "is_masked"),
    [
        ("correct horse", True),
        ("p@ss/w0rd", True),
        ("/data/of/mine", False),
        ("http://host:5000", False),
        ("1234567.5", False),
    ],
)
def test_redact_masks_what_configs_take_from_the_environment(compose, monkeypatch, value, is_masked):
    """The variable's name need not tell; addresses, paths and numbers stay readable."""
    monkeypatch.setenv("PLAIN", value)
    assert redact(f"a {value} b") == f"a {value} b"
    assert compose("+vars.x=${oc.env:PLAIN}").vars.x == value
    assert redact(f"a {value} b") == ("a *** b" if is_masked else f"a {value} b")


def test_secrets_from_the_environment_stay_there(compose, monkeypatch):
    """`${oc.env:...}` resolves for the run and is masked in the config that it writes."""
    monkeypatch.setenv("STORE", "postgresql://me:canary@host/db")
    cfg = compose("tracking.uri=${oc.env:STORE}", "trainer.args.hub_model_id=a/b")
    assert cfg.tracking.uri == "postgresql://me:canary@host/db"
    del cfg.hydra
    assert "canary" not in resolved_yaml(cfg)


def test_git_commit(own_directory):
    """The commit of the current directory, marked where there are changes; None outside a repository."""
    assert git_commit() is None
    for command in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", *command], check=True)  # noqa: S607
    clean = git_commit()
    assert len(clean) == 40
    (own_directory / "new").write_text("")
    assert git_commit() == f"{clean}-dirty"


def test_console_script(monkeypatch, own_directory):
    """What a run tells the user to type works as typed, also where .venv/bin is not on the PATH."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert cli_path() == "hydratune"
    monkeypatch.setenv("PATH", "/nowhere")
    assert (own_directory / cli_path()).resolve() == Path(sys.executable).with_name("hydratune").resolve()


def test_git_diff(own_directory):
    """What a commit does not have: changed lines and new files, without tokens; empty where there is nothing."""
    assert git_diff() == ""
    (own_directory / "a.txt").write_text("one\n")
    commit = ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x"]
    for command in (["init", "-q"], ["add", "a.txt"], commit):
        subprocess.run(["git", *command], check=True)  # noqa: S607
    assert git_diff() == ""
    (own_directory / "a.txt").write_text("token = hf_canary0123456789abcdef\n")
    (own_directory / "new.txt").write_text("")
    assert {"?? new.txt", "-one", "+token = ***"} <= set(git_diff().splitlines())


def commit(*names):
    """Make the current directory a repository whose first commit has these files."""
    author = ["-c", "user.name=a", "-c", "user.email=b"]
    for command in (["init", "-q"], ["add", *names], [*author, "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", *command], check=True)  # noqa: S607


def test_git_diff_keeps_bytes_that_are_not_utf8(own_directory):
    """A changed file in Latin-1 is part of the diff; its bytes are escaped."""
    (own_directory / "a.txt").write_bytes(b"old\n")
    commit("a.txt")
    (own_directory / "a.txt").write_bytes(b"caf\xe9\n")
    assert r"+caf\xe9" in git_diff().splitlines()


def test_git_diff_has_no_colors(own_directory):
    """The user's settings for the terminal do not change the record."""
    (own_directory / "a.txt").write_text("old\n")
    commit("a.txt")
    for key, value in (("color.ui", "always"), ("diff.external", "false")):
        subprocess.run(["git", "config", key, value], check=True)  # noqa: S607
    (own_directory / "a.txt").write_text("new\n")
    assert {"-old", "+new"} <= set(git_diff().splitlines())


@pytest.mark.parametrize("record", [git_commit, git_diff])
def test_git_says_why_it_failed(record):
    """In a repository, a failure is no silent absence: here there is no commit yet."""
    subprocess.run(["git", "init", "-q"], check=True)  # noqa: S607
    with pytest.raises(OSError, match=r"HEAD|revision"):
        record()


def test_environment():
    """Every installed package with its version."""
    assert f"hydratune=={version('hydratune')}" in environment().splitlines()
