"""What secrets look like: tokens by the formats of their providers, and passwords in addresses."""

from __future__ import annotations

import re

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
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# SQLAlchemy reads everything between the first colon and `@` as the password, also `/`; a password that has an `@`
# goes on to the last one.
_DATABASE = re.compile(
    r"((?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|cockroachdb|clickhouse|snowflake|redshift|rediss?|mongodb|amqps?)"
    r"(?:\+\w+)?://)[^\s/:@]*:\S*(?=@)",
    re.IGNORECASE,
)
# The user information of another URL that holds a password; of HTTP also a user name alone, since it can be a token.
_USER_INFORMATION = re.compile(
    r"(?:(?<=http://)|(?<=https://))[^/@\s]+(?=@)|(?<=://)[^/@\s:]*:[^/@\s]*(?=@)", re.IGNORECASE
)
_PARAMETER = re.compile(
    r"(?<=[?&])((?:ssl)?password|passwd|pwd|secret|api_?key|(?:access_|auth_)?token|sig|signature|odbc_connect"
    r"|x-amz-(?:signature|credential|security-token))=[^&#\s'\"]+",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """Return a text with its tokens, private keys, and passwords in addresses masked."""
    text = _DATABASE.sub(rf"\1{MASK}", text)
    text = _PARAMETER.sub(rf"\1={MASK}", _USER_INFORMATION.sub(MASK, text))
    return _PRIVATE_KEY.sub(MASK, _TOKEN.sub(MASK, text))
