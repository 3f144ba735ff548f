"""Names that mark secrets, and the forms in which texts contain them."""

import dataclasses
import inspect
import json
import re
import time
import unicodedata
from urllib.parse import quote

import pytest
import yaml
from transformers import TrainingArguments

from hydratune.config.options import shipped_dir
from hydratune.utils.provenance import redact
from hydratune.utils.secret_encodings import contains_secret, replace_secret
from hydratune.utils.secret_names import is_secret, is_secret_parameter, is_secret_variable

WORDS = [
    *("auth", "oauth_token", "bearer", "passphrase", "signature", "session", "cookie", "cookies", "session_id", "jwt"),
    *("Authorization", "oauth2", "credentials", "client-secret", "accessToken", "id_token", "csrf_token", "bot_token"),
    *("pat", "sig", "sas_token", "otp", "storage_key", "ssh_key", "X-Amz-Signature", "password2", "authtoken"),
]


@pytest.mark.parametrize("name", WORDS)
def test_secret_words_mark_keys_variables_and_parameters(name):
    """One list serves all three."""
    variable = re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).upper()
    assert (is_secret(f"vars.{name}"), is_secret_variable(f"MY_{variable}"), is_secret_parameter(name)) == (True,) * 3


def test_is_secret_accepts_every_argument_of_training_and_peft():
    """`hub_token` is the only secret among them."""
    import peft

    kinds = [kind for _, kind in inspect.getmembers(peft, inspect.isclass) if dataclasses.is_dataclass(kind)]
    names = {field.name for kind in (TrainingArguments, *kinds) for field in dataclasses.fields(kind)}
    assert [name for name in names if is_secret(name)] == ["hub_token"]


def test_is_secret_accepts_every_key_of_the_shipped_configs():
    """No key of a shipped config is masked."""
    keys = {
        key for path in shipped_dir().rglob("*.yaml") for key in re.findall(r"^[ #]*([\w-]+):", path.read_text(), re.M)
    }
    assert len(keys) > 50
    assert [key for key in keys if is_secret(key)] == []


def test_labels_named_like_secrets_are_not_masked():
    """The names of keys below `labels` are data."""
    plain = {"labels": {"cookie": "Cookie", "session": 1}, "label2id": {"token": 3}, "auth": {"x": 1}}
    assert redact(plain) == {**plain, "auth": "***"}
    assert not is_secret("dataset.labels.cookie")


SECRET = "CANARY 01'23/4 +5"
FORMS = [
    "CANARY 01'23/4 +5", "CANARY  01'23/4\t+5", "CANARY01'23/4+5", "CANARY%2001'23/4%20+5", "CANARY+01%2723%2F4+%2B5",
    "CANARY%252001%252723%252F4%2520%252B5", "CANARY 01\\'23/4 +5", "'CANARY' '01''23/4' +5", "%43ANARY 01'23/4 +5",
    "CANARY&#32;01&#39;23/4 +5", "CANARY\n01'23/4\n+5", "canary%2001%2723%2f4%20%2b5".replace("canary", "CANARY"),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_secret_is_masked_whatever_its_spaces_quotes_and_encoding(monkeypatch, form):
    """Without the variable, the text does not change."""
    text = f"see <{form}> here"
    assert redact(text) == text
    monkeypatch.setenv("S1_TOKEN", SECRET)
    masked = redact(text)
    assert "***" in masked
    assert "ANARY" not in masked
    assert redact("see CANARY 01 here") == "see CANARY 01 here"


@pytest.mark.parametrize("header", ["Cookie: id=CANARY; b=CANARY", "{'Set-Cookie': 'sid=CANARY; Path=/'}"])
def test_cookie_is_masked(header):
    """As in the messages of HTTP clients."""
    assert "CANARY" not in redact(header)
    assert redact("cookie: a small cake") == "cookie: a small cake"


@pytest.mark.parametrize("text", ["http://canary-0123.host", "CANARY-0123", "a Canary%2D0123 b"])
def test_secret_in_another_case_is_found(text):
    """Host names, for example, are written in lower case."""
    assert contains_secret(text, "cAnArY-0123")
    assert "0123" not in replace_secret(text, "cAnArY-0123", "***")


UNICODE = "pä/wÖrt 😀é'1"
ESCAPED = {
    "repr of bytes": repr(UNICODE.encode()),
    "ascii": ascii(UNICODE),
    "unicode_escape": UNICODE.encode("unicode_escape").decode(),
    "JSON": json.dumps(UNICODE),
    "JSON in JSON": json.dumps(json.dumps(UNICODE)),
    "YAML": yaml.safe_dump({"a": UNICODE}),
    "YAML, wrapped": yaml.safe_dump({"a": "x " * 36 + UNICODE}),
    "XML references": UNICODE.encode("ascii", "xmlcharrefreplace").decode(),
    "decimal references": "".join(f"&#{ord(character)};" for character in UNICODE),
    "hexadecimal references": "".join(f"&#x{ord(character):X};" for character in UNICODE),
    "named references": UNICODE.replace("ä", "&auml;").replace("Ö", "&Ouml;").replace("é", "&eacute;"),
    "escaped bytes": "".join(f"\\x{byte:02x}" for byte in UNICODE.encode()),
    "octal bytes": "".join(f"\\{byte:03o}" for byte in UNICODE.encode()),
    "decomposed": unicodedata.normalize("NFD", UNICODE),
    "decomposed in JSON": json.dumps(unicodedata.normalize("NFD", UNICODE)),
    "decomposed and percent-encoded": quote(unicodedata.normalize("NFD", UNICODE)),
}


@pytest.mark.parametrize("form", ESCAPED)
@pytest.mark.parametrize("normal_form", ["NFC", "NFD"])
def test_secret_is_masked_in_escape_sequences_and_references(monkeypatch, form, normal_form):
    """Libraries print values as bytes, JSON, YAML, or HTML; a file system may decompose the characters."""
    text = f"see <{ESCAPED[form]}> here"
    assert redact(text) == text
    monkeypatch.setenv("S1_TOKEN", unicodedata.normalize(normal_form, UNICODE))
    masked = redact(text)
    assert "***" in masked
    assert len(masked) <= 20 or "YAML" in form  # nothing remains but quotes


@pytest.mark.parametrize("unit", ["a", "A", "\\x61", "\\\\\\\\x61", "&#97;", "%61", "\\x20a", "a\\\\\\\\"])
def test_secret_is_found_in_linear_time(unit):
    """A text that begins like the secret many times, and contains it, does not make the search try all combinations."""
    secret = "a" * 40 + "1"
    before = time.monotonic()
    assert "***" in replace_secret(unit * 100 + secret.replace("1", "\\x31"), secret, "***")
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("text", ["\\U00110000", "\\ud800", "\\777", "\\x", "&#99999999;", "\\u12", "C:\\x41\\101"])
def test_text_with_invalid_escape_sequences_stays(monkeypatch, text):
    """As in any text with backslashes."""
    monkeypatch.setenv("S1_TOKEN", "CANARY-0123")
    assert redact(text) == text
