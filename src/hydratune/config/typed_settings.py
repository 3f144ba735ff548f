"""Overrides that the user has typed, whose values a stored run may repeat.

A run stores its overrides, and resuming it must not require them again. But the run can be someone else's, and it can
name any directory as the one where it was started, e.g. the usual one of a hosted machine. So an override that
publishes a model, names a machine, or has an interpolation counts only if the user has typed it before. A file of the
user has the SHA-256 of each such text, since the text can contain a secret.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable

from hydratune.utils.user_records import read_record, write_record

RENDEZVOUS = "hardware.launch.rdzv_endpoint"
PUSH, PRIVATE_REPO, REPO = "trainer.args.push_to_hub", "trainer.args.hub_private_repo", "trainer.args.hub_model_id"
REPORTERS = "trainer.args.report_to"
REGISTERED = ("tracking.registered_model_name", "tracking.registered_model_alias")
_KEYS = (RENDEZVOUS, PUSH, PRIVATE_REPO, REPO, REPORTERS, *REGISTERED, "trainer.args.hub_token")
_INTERPOLATION = "${"
_RECORD = "typed_settings.json"
_typed: set[str] = set()  # of this process, in case that the user's file cannot be written


def record_typed(overrides: Iterable[str]) -> None:
    """Record those of the overrides that count only if the user has typed them; call it when a run starts."""
    new = {_digest(text) for text in overrides if _is_limited(text)} - _recorded()
    if new:
        _typed.update(new)
        with contextlib.suppress(OSError):  # e.g. no home directory: they count for this command only
            write_record(_RECORD, sorted(_recorded()))


def unrecorded(overrides: Iterable[str]) -> list[str]:
    """Return those of a stored run's overrides that the user has not typed, as far as such are recorded."""
    recorded = _recorded()
    return [text for text in overrides if _digest(text) not in recorded]


def are_limited(overrides: Iterable[str], keys: Iterable[str]) -> bool:
    """Return whether overrides set one of these keys, a part of it, or a node above it, or have an interpolation.

    Args:
        overrides: Texts of the overrides.
        keys: Keys that they set.
    """
    has_key = any(f"{name}.".startswith(f"{key}.") or key.startswith(f"{name}.") for key in keys for name in _KEYS)
    return has_key or any(_INTERPOLATION in text for text in overrides)


def _is_limited(text: str) -> bool:
    return "=" in text and are_limited([text], [text.lstrip("+").partition("=")[0]])


def _digest(text: str) -> str:
    return hashlib.sha256(text.lstrip("+").encode(errors="surrogateescape")).hexdigest()


def _recorded() -> set[str]:
    return {*read_record(_RECORD, []), *_typed}
