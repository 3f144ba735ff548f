"""Usage statistics of libraries, which would be sent to servers that the user has not named."""

from __future__ import annotations

import os

# Variable -> value with which a library sends none. Child processes and workers of a sweep inherit them.
_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def turn_off_telemetry() -> None:
    """Turn usage statistics off, unless the user has set a variable; call this before the libraries are imported."""
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)
