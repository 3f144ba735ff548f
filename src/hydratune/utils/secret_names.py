"""Names that mark secrets: keys of configs, environment variables, and parameters of addresses."""

from __future__ import annotations

import functools
import re

# Words that also mark a secret as the end of a longer word, e.g. `PGPASSWORD` or `authtoken`.
_CREDENTIALS = ("password", "passwd", "passphrase", "passcode", "secret", "secrets", "credential", "credentials")
# Words that mark a secret only as a whole word: `sig`, not `config`, and `auth`, not `XAUTH`.
_WORDS = (
    *("auth", "oauth", "oauth2", "authorization", "bearer", "cookie", "cookies", "session", "sessionid", "session_id"),
    *("jwt", "pass", "pat", "pw", "pwd", "sas", "sig", "signature", "otp", "sshpass"),
)
# Words before `key` and `token`. Without them, `sort_key` and `pad_token` would be secrets.
_KEYS = (
    *(
        "access",
        "account",
        "api",
        "client",
        "encryption",
        "fernet",
        "license",
        "master",
        "private",
        "secret",
        "service",
    ),
    *("shared", "signing", "ssh", "storage", "subscription"),
)
_TOKENS = (
    *("access", "account", "admin", "api", "app", "auth", "bearer", "bot", "client", "csrf", "deploy", "github"),
    *("gitlab", "hf", "hub", "id", "identity", "login", "npm", "oauth", "oauth2", "personal", "private", "pypi"),
    *("refresh", "sas", "secret", "security", "service", "session", "slack", "tracking", "user", "wandb", "xsrf"),
)
_ENDING = "|".join(_CREDENTIALS)
_NAMED = rf"(?:{'|'.join(_KEYS)})_?keys?|(?:{'|'.join(_TOKENS)})_?tokens?"
_KEY = re.compile(rf"^token$|(?:{_ENDING})\d*$|(?:^|_)(?:{'|'.join(_WORDS)}|{_NAMED})\d*$")
# A variable such as KAGGLE_KEY or DD_APP_KEY is a secret; keys of a table and of a pair are not.
_KEY_VARIABLE = r"(?<!sort)(?<!public)(?<!primary)(?<!foreign)(?<!partition)_key\d*$"
_VARIABLE = re.compile(rf"token$|(?:{_ENDING}|{_NAMED})\d*$|(?:^|_)(?:{'|'.join(_WORDS)})\d*$|{_KEY_VARIABLE}")
_PARAMETER = re.compile(r"token$|^(?:key|conninfo|dsn|odbc_connect)$")
_PUBLIC_VARIABLES = ("desktop_session", "pwd")  # the name of a desktop, e.g. plasma, and the working directory
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|[-.\s]")  # places in `dbPassword` and `db-password` where others have `_`
# Keys of configs below which the names of keys are labels of data, not settings: `dataset.labels={cookie: 0}`.
LABELS = ("labels", "id2label", "label2id")


@functools.lru_cache(maxsize=10_000)
def is_secret(key: str) -> bool:
    """Return whether a dotted config key holds a secret, by one of its names, e.g. `hub_token` or `password.value`."""
    for name in key.split("."):
        if _KEY.search(_normal(name)):
            return True
        if name in LABELS:
            return False
    return False


@functools.lru_cache(maxsize=10_000)  # each text of a config asks for all variables of the environment
def is_secret_variable(name: str) -> bool:
    """Return whether an environment variable has the name of a secret, e.g. `HF_TOKEN`."""
    return bool(_VARIABLE.search(_normal(name))) and _normal(name) not in _PUBLIC_VARIABLES


@functools.lru_cache(maxsize=10_000)
def is_secret_parameter(name: str) -> bool:
    """Return whether a parameter of an address holds a secret, e.g. `password` or `X-Amz-Signature`."""
    return bool(_KEY.search(_normal(name)) or _PARAMETER.search(_normal(name)))


def _normal(name: str) -> str:
    return _CAMEL.sub("_", name.strip()).lower()
