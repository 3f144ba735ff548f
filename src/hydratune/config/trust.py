"""Trust in the code that a project lists, which a cloned repository can contain."""

from __future__ import annotations

from hydratune.config.project import project_settings
from hydratune.utils import places

FLAG = "--trust-project"  # trusts the list for one command, e.g. in CI


def trust_for_this_command() -> None:
    """Trust the list in this process and in its child processes."""
    places.trusted_for_this_command[:] = [True]


def trusted_names() -> list[str]:
    """Return the names that the project's list allows; empty if the user has not trusted the list."""
    return [] if untrusted_names() else project_settings().allow


def untrusted_names() -> list[str]:
    """Return the names that the project's list would allow if the user trusted it; empty if the user does."""
    path, names, _ = project_settings()
    return [] if places.is_trusted(path, names) else names
