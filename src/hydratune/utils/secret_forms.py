"""Forms in which a text contains a secret: as it is, quoted, encoded, or with other spaces."""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import shlex
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

SHORTEST = 8  # characters; shorter values may be ordinary words
_PERCENT = re.compile("%[0-9A-F]{2}")  # percent-encoded bytes, which some libraries write in lower case
# Characters in which forms of the same secret differ: spaces, quotes, and the signs that stand for them.
_SEPARATORS = re.compile(r"[\s'\"`\\+]+")
_SEPARATOR = r"(?:[\s'\"`\\+]|%(?:25)*(?:[01][0-9a-f]|2[0257b]|5c|60)|&(?:#x?\w+|quot|nbsp);)*"
_MOST_ENCODINGS = 3  # times that a text is encoded


def replace_secret(text: str, secret: str, replacement: str) -> str:
    """Return a text in which each form of a secret is replaced."""
    for form in _forms(secret):
        text = text.replace(form, replacement)
    core = _core(secret)
    if len(core) >= SHORTEST and core in _core(text):
        text = _pattern(core).sub(lambda _: replacement, text)
    return text


def contains_secret(text: str, secret: str) -> bool:
    """Return whether a text contains a secret in any form."""
    core = _core(secret)
    return any(form in text for form in _forms(secret)) or (len(core) >= SHORTEST and core in _core(text))


@functools.lru_cache(maxsize=1000)  # one line of output is compared with all secrets
def _core(text: str) -> str:
    """Return a text in lower case, as host names are, without percent-encoding, entities, spaces, and quotes."""
    for _ in range(_MOST_ENCODINGS):
        if "%" not in text:
            break
        text = unquote(text)
    return _SEPARATORS.sub("", html.unescape(text) if "&" in text else text).lower()


@functools.cache
def _pattern(core: str) -> re.Pattern[str]:
    """Return the pattern of a secret with any spaces and quotes in it, and with any characters percent-encoded."""
    cases = ({character, character.upper()} for character in core)
    characters = ("|".join(f"{re.escape(one)}|{_encoded_bytes(one)}" for one in sorted(case)) for case in cases)
    return re.compile(_SEPARATOR.join(f"(?:{character})" for character in characters), re.IGNORECASE)


def _encoded_bytes(character: str) -> str:
    return "".join(f"%(?:25)*{byte:02x}" for byte in character.encode(errors="surrogateescape"))


@functools.cache  # each line of output needs the forms of all secrets
def _forms(secret: str) -> tuple[str, ...]:
    """Return the forms of a secret in messages, files, and addresses, the longest first."""
    quoted: tuple[str, ...] = (repr(secret)[1:-1], repr(f"'{secret}\"")[3:-2])  # with either kind of quotes
    quoted += tuple(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    lines = (" ".join(secret.split()), *(line for line in secret.splitlines() if len(line) >= SHORTEST))
    addresses: tuple[str, ...] = (quote(secret), quote(secret, safe=""), quote_plus(secret))
    addresses += tuple(_PERCENT.sub(lambda match: match[0].lower(), address) for address in addresses)
    shell = shlex.quote(secret)[1:-1] if shlex.quote(secret) != secret else secret
    forms = {secret, *quoted, *lines, *addresses, shell, html.escape(secret), *_encoded(secret)}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True))


def _encoded(secret: str) -> Iterator[str]:
    """Yield a secret as hexadecimal digits and as Base64, also as a part of a longer text, e.g. `user:password`."""
    plain = secret.encode(errors="surrogateescape")
    yield from (plain.hex(), plain.hex().upper())
    for before in range(3):  # Base64 encodes groups of 3 bytes, of which the first may have other bytes before
        padded = b"\0" * before + plain
        begin, end = -(-before * 8 // 6), len(padded) * 8 // 6  # characters that consist of bits of the secret alone
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(padded).decode()[begin:end]
