"""Forms in which a text contains a secret: as it is, quoted, encoded, or with other spaces."""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import shlex
import unicodedata
from collections.abc import Iterator
from html.entities import codepoint2name
from urllib.parse import quote, quote_plus, unquote

SHORTEST = 8  # characters; shorter values may be ordinary words
_PERCENT = re.compile("%[0-9A-F]{2}")  # percent-encoded bytes, which some libraries write in lower case
# Characters in which forms of the same secret differ: spaces, quotes, and the signs that stand for them.
_SEPARATORS = re.compile(r"[\s'\"`\\+]+")
_CODES = r"(?:[01][0-9a-f]|2[0257b]|5c|60)"
_OCTAL_CODES = r"(?:0(?:[0-3][0-7]|4[0257]|53)|134|140)"
_ENTITIES = r"&(?:#0*(?:9|1[0-3]|3[249]|43|9[26]|160)|#x0*(?:9|[a-d]|2[027b]|5c|60|a0)|quot|apos|nbsp|plus|bsol|grave);"
_SEPARATOR = rf"(?:[\s'\"`\\+]|%(?:25)*{_CODES}|\\(?:(?:x|u00|U000000){_CODES}|{_OCTAL_CODES})|{_ENTITIES})*"
# Escape sequences of Python, JSON, YAML, and C, also with escaped backslashes.
_LAST, _ESCAPE = r"\\", r"\\{1,8}"
_HEX = "[0-9A-Fa-f]"
_ESCAPES = re.compile(
    rf"{_ESCAPE}U(?:000{_HEX}|0010){_HEX}{{4}}|(?:{_ESCAPE}u{_HEX}{{4}})+"
    rf"|(?:{_ESCAPE}x{_HEX}{{2}})+|(?:{_ESCAPE}[0-3][0-7]{{2}})+"
)
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
    """Return a text in lower case, as host names are, without encodings, escape sequences, spaces, and quotes."""
    for _ in range(_MOST_ENCODINGS):
        if "%" not in text:
            break
        text = unquote(text)
    text = html.unescape(text) if "&" in text else text
    text = _ESCAPES.sub(_unescaped, text) if "\\" in text else text
    return unicodedata.normalize("NFC", _SEPARATORS.sub("", text).lower())


def _unescaped(match: re.Match[str]) -> str:
    """Return the characters of escape sequences of one kind, with bytes as UTF-8 if they are valid, else as Latin-1."""
    text = match[0].replace("\\", "")
    if text[0] in "uU":
        units = b"".join(int(code, 16).to_bytes(4, "little") for code in text.split(text[0])[1:])
        pairs = units.decode("utf-32-le", errors="surrogatepass").encode("utf-16-le", errors="surrogatepass")
        return pairs.decode("utf-16-le", errors="replace")
    if text[0] == "x":
        encoded = bytes.fromhex(text.replace("x", ""))
    else:
        encoded = bytes(int(text[begin : begin + 3], 8) for begin in range(0, len(text), 3))
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded.decode("latin-1")


@functools.cache
def _pattern(core: str) -> re.Pattern[str]:
    """Return the pattern of a secret with any spaces and quotes in it, and with any characters encoded or escaped."""
    return re.compile(_SEPARATOR.join(f"(?:{_character(character)})" for character in core), re.IGNORECASE)


def _character(character: str) -> str:
    """Return the pattern of a character in upper or lower case, composed or not.

    No text matches in two ways, since a search would try all combinations. So the separator before the character takes
    all backslashes but the last one.
    """
    cases = {character, character.upper()}
    forms = {form for text in cases for form in _sequence(text)}
    forms |= {form for case in cases for form in _sequence(unicodedata.normalize("NFD", case))}
    return "|".join(sorted(forms))


def _sequence(text: str) -> list[str]:
    """Return the patterns of a text of few code points, such as a letter and its accent."""
    rest = "".join(f"(?:{'|'.join(_code_point(point, _ESCAPE))})" for point in text[1:])
    return [form + rest for form in _code_point(text[0], _LAST)]


def _code_point(point: str, escape: str) -> list[str]:
    """Return the patterns of a code point, whose first escape sequence begins with `escape`."""
    encoded = point.encode(errors="surrogateescape")
    number, units = ord(point), point.encode("utf-16-be", errors="surrogatepass")
    words = [units[begin : begin + 2].hex() for begin in range(0, len(units), 2)]
    forms = [
        re.escape(point),
        "".join(f"%(?:25)*{byte:02x}" for byte in encoded),
        escape + _ESCAPE.join(f"x{byte:02x}" for byte in encoded),
        escape + _ESCAPE.join(f"{byte:03o}" for byte in encoded),
        escape + _ESCAPE.join(f"u{word}" for word in words),
        escape + f"U{number:08x}",
        *((f"{escape}x{number:02x}", f"{escape}{number:03o}") if number < 256 else ()),
        f"&#0*{number};?",
        f"&#x0*{number:x};?",
        *((f"&{codepoint2name[number]};",) if number in codepoint2name else ()),
    ]
    return sorted({form.lower() for form in forms})


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
