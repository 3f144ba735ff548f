"""Formats of secrets: tokens of known providers, and passwords in addresses."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

from hydratune.utils.secret_names import is_secret_parameter

MASK = "***"
# The prefixes are those that providers document so that scanners find leaked tokens, as in the rules of gitleaks.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org)_\w{16,}"  # Hugging Face
    r"|gh[a-z]_\w{16,}|github_pat_\w{20,}"  # GitHub
    r"|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[\w-]{20,}"  # GitLab
    r"|sk-[\w-]{16,}"  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"|(?:gsk|xai|r8|pplx|csk|fw|pcsk|tvly)[_-]\w{20,}"  # Groq, xAI, Replicate, Perplexity, Cerebras, Fireworks, ...
    r"|nvapi-[\w-]{20,}"  # NVIDIA
    r"|wandb_v1_\w{20,}"  # Weights & Biases
    r"|dapi[0-9a-f]{32}(?:-\d)?"  # Databricks
    r"|(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}"  # AWS
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"  # Google
    r"|[\w~.-]{3}8Q~[\w~.-]{31,34}"  # Azure
    r"|hooks\.slack\.com/\w+/[\w/-]{20,}|discord(?:app)?\.com/api/webhooks/[\w/-]{20,}"  # addresses that are secrets
    r"|xox[a-z](?:-[\w-]{10,}|\.[\w.-]{10,})|xapp-[\w-]{10,}"  # Slack
    r"|npm_\w{36}|pypi-[\w-]{16,}|dckr_pat_[\w-]{20,}|rubygems_[0-9a-f]{40,}"  # package registries
    r"|(?:sk|rk|pk|whsec)_(?:live|test)_\w{10,}|whsec_\w{20,}"  # Stripe
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|key-[0-9a-f]{32}"  # SendGrid, Mailgun
    r"|do[opr]_v1_[0-9a-f]{64}|hvs\.[\w-]{20,}|glsa_\w{20,}|glc_\w{20,}"  # DigitalOcean, Vault, Grafana
    r"|lin_api_\w{20,}|ntn_\w{20,}|secret_\w{43}|figd_[\w-]{20,}|PMAK-[\w-]{20,}"  # Linear, Notion, Figma, Postman
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"  # JSON Web Token
    r"|\d{8,10}:AA[\w-]{33}"  # Telegram
    r")"
)
# Credentials in the headers of a request, e.g. `Authorization: Bearer ...`, also in the text form of a dict.
_HEADER = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization['\"]?\s*[:=]\s*b?['\"]?(?:basic|bearer|token)\s+)[^\s'\",]+", re.IGNORECASE
)
_COOKIE = re.compile(r"(?P<name>\b(?:set-)?cookie['\"]?\s*:\s*b?['\"]?\s*[\w.-]+=)[^\s'\"][^'\"\r\n]*", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# SQLAlchemy reads everything between a colon that follows no slash and `@` as the password, also `/`. A password with
# an `@` extends to the last one. A user name can have an `@` too, as in Azure.
_DATABASES = (
    r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|cockroachdb|clickhouse|snowflake|redshift|rediss?|mongodb|amqps?)"
    r"(?:\+\w+)?://"
)
_USER_INFORMATION = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\w+.-])(?P<scheme>{_DATABASES})(?P<secret>[^\s/:]*:\S+)(?=@)",
        # For HTTP, also a user name alone, since it can be a token.
        r"(?P<scheme>https?:/*)(?P<secret>[^/\s]+)(?=@)",
        r"(?P<scheme>//|:/)(?P<secret>[^/@\s:]*:[^/\s]*)(?=@)",  # also `http//` and `http:/`
        # A password with a slash. The text after the colon is not a port.
        r"(?P<scheme>://)(?P<secret>[^/@\s:\[]*:(?!\d{1,5}(?:[/?#]|$))[^/\s]*/\S*)(?=@)",
    )
)
# A text that is one address can have spaces, quotes, and `#` in its password.
_ADDRESS = re.compile(r"\s*['\"]?[A-Za-z][\w+.-]*://")
_WHOLE_DATABASE = re.compile(rf"(?P<scheme>{_DATABASES})(?P<secret>[^/:]*:.+)(?=@)", re.IGNORECASE | re.DOTALL)
_WHOLE_USER_INFORMATION = re.compile(r"(?P<scheme>://)(?P<secret>[^/@:]*:[^/?#]+)(?=@)", re.DOTALL)
_PARAMETER = re.compile(r"(?<=[?&;])(?P<name>[^=&;?\s'\"]+)=(?P<secret>[^&\s'\"]+)")
# A word without `=` after `&` belongs to the password before it.
_WHOLE_PARAMETER = re.compile(r"(?<=[?&;])(?P<name>[^=&;?]+)=(?P<secret>[^&]+(?:&[^=&]+(?=&|$))*)", re.DOTALL)
_FRAGMENT = re.compile(r"(?<=#)(?P<name>[^=&;?#\s'\"]+)=(?P<secret>[^&\s'\"]+)")  # `#access_token=...`
_PIECES = re.compile(r"[@/?#:]")  # signs at which clients split an address, also inside a password
# The text forms of libpq, ODBC, ADO, and Azure: `host=h password=...`, `AccountName=x;AccountKey=...`
_CONNECTION = re.compile(
    r"(?<![\w.])(?:host(?:addr)?|server|dbname|database|user(?: id)?|uid|data source|accountname|endpoint)\s*=",
    re.IGNORECASE,
)
_CONNECTION_PASSWORD = re.compile(
    r"(?<![\w.])(?P<scheme>(?:password|pwd|sslpassword|accountkey|sharedaccess(?:key|signature))\s*=\s*)"
    r"(?P<secret>'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\{[^}]*\}|[^\s;&'\"${]+)",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """Return a text with its tokens, private keys, and passwords in addresses and headers masked."""
    text = _COOKIE.sub(rf"\g<name>{MASK}", _HEADER.sub(rf"\g<name>{MASK}", _mask_connections(text)))
    return _PRIVATE_KEY.sub(MASK, _TOKEN.sub(MASK, text))


def is_address(text: str) -> bool:
    """Return whether a text as a whole is one address."""
    return _ADDRESS.match(text) is not None


def address_secrets(address: str) -> set[str]:
    """Return the passwords and tokens of an address, as they are written there and as clients decode them."""
    secrets: set[str] = set()
    _mask_connections(address, secrets)
    passwords = {text.partition(":")[2] or text for text in secrets}  # a user name is in many texts, such as paths
    pieces = {piece for password in passwords for piece in _PIECES.split(password)}
    parts = secrets | passwords | pieces | {text.strip("'\"{}") for text in secrets}
    return {form for part in parts for form in (part, unquote(part), unquote_plus(part)) if part != MASK} - {""}


def _mask_connections(text: str, secrets: set[str] | None = None) -> str:
    """Mask the passwords of addresses and of connection strings in a text, and add them to `secrets`."""

    def note(match: re.Match[str]) -> str:
        if secrets is not None:
            secrets.add(match["secret"])
        return MASK

    def parameter(match: re.Match[str]) -> str:
        is_secret = is_secret_parameter(unquote(match["name"]))
        return f"{match['name']}={note(match)}" if is_secret and match["secret"] != MASK else match[0]

    is_whole = is_address(text)
    whole_patterns = (_WHOLE_DATABASE, _WHOLE_USER_INFORMATION) if is_whole else ()
    for pattern in (*whole_patterns, *_USER_INFORMATION):
        text = pattern.sub(lambda match: match["scheme"] + note(match), text)
    text = _FRAGMENT.sub(parameter, (_WHOLE_PARAMETER if is_whole else _PARAMETER).sub(parameter, text))
    if _CONNECTION.search(text):
        text = _CONNECTION_PASSWORD.sub(lambda match: match["scheme"] + note(match), text)
    return text
