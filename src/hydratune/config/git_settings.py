"""Settings of git repositories with which git runs programs or uses other directories.

Clients of trackers run git, e.g. `git diff`, where a command runs, and git obeys the repository that it finds there. A
cloned project can contain one even without `.git`: git also uses a directory with `HEAD`, `config`, `objects`, and
`refs`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from hydratune.utils.provenance import WITHOUT_PROGRAMS, run_git
from hydratune.utils.stored_files import read_regular

# Settings that neither name a program nor lead elsewhere. Git has many others, and each version adds some.
_HARMLESS = re.compile(
    r"(advice|branch|color|column|pull|push)\..*"
    r"|core\.(abbrev|autocrlf|bare|commentchar|compression|eol|filemode|ignorecase|logallrefupdates|longpaths"
    r"|precomposeunicode|preloadindex|quotepath|repositoryformatversion|safecrlf|sharedrepository|sparsecheckout"
    r"|sparsecheckoutcone|symlinks|untrackedcache)"
    r"|extensions\.(objectformat|refstorage|worktreeconfig)|gc\.auto|lfs\.repositoryformatversion"
    r"|remote\..*\.(fetch|prune|pushurl|tagopt|url)|submodule\.(active|recurse|.*\.(active|branch|ignore|url))"
    r"|user\.(email|name)",
    re.DOTALL,
)
_BOOLEANS = ("", "0", "1", "false", "no", "off", "on", "true", "yes")  # with which core.fsmonitor names no program
_HOOKS = ("post-index-change", "reference-transaction")  # commands that only read run these
_SUBMODULE = "160000"  # mode of an entry of the index


def unsafe_settings(folder: Path, found: dict[Path, list[str]] | None = None) -> dict[Path, list[str]]:
    """Return the settings that may run a program when git runs in a directory, in the repository and its submodules.

    Args:
        folder: An existing directory.
        found: The settings of other repositories, which are not read again.

    Returns:
        Path of the repository's config -> its settings, as `KEY=VALUE` or `HOOK=SHA-256`; empty if there are none.

    Raises:
        OSError: Git is not installed.
        subprocess.TimeoutExpired: Git needs more than 10 seconds.
    """
    found = {} if found is None else found
    git_directory = _line(folder, "rev-parse", "--absolute-git-dir")
    config = Path(git_directory, "config")
    if not git_directory or config in found:
        return found
    found[config] = [*_config(folder, Path(git_directory)), *_hooks(folder)]
    for submodule in _submodules(folder):
        unsafe_settings(submodule, found)
    return found


def _config(folder: Path, git_directory: Path) -> Iterator[str]:
    texts = {
        text: None for scope in ("--local", "--worktree") for text in _texts(folder, "config", scope, "--list", "-z")
    }
    for key, _, value in (text.partition("\n") for text in texts):
        is_harmless = (
            _HARMLESS.fullmatch(key)
            or (key == "core.fsmonitor" and value.lower() in _BOOLEANS)
            or (key == "core.worktree" and _is_own_worktree(git_directory / value, git_directory))
        )
        if not is_harmless:
            yield f"{key}={value}"


def _is_own_worktree(worktree: Path, git_directory: Path) -> bool:
    """Return whether the `.git` of a directory leads to its repository, as in a submodule."""
    try:
        target = read_regular(worktree / ".git").decode().removeprefix("gitdir:").strip()
    except (OSError, ValueError):
        return False
    return (worktree / target).resolve() == git_directory.resolve()


def _hooks(folder: Path) -> Iterator[str]:
    hooks = folder / _line(folder, "rev-parse", "--git-common-dir") / "hooks"
    for path in (hooks / name for name in _HOOKS):
        if path.exists():
            yield f"{path.name}={hashlib.sha256(read_regular(path)).hexdigest()}"


def root(folder: Path) -> Path:
    """Return the directory of the repository that git uses in a directory; the directory itself without one."""
    return Path(_line(folder, "rev-parse", "--show-toplevel") or folder)


def _submodules(folder: Path) -> Iterator[Path]:
    top = root(folder)
    for entry in _texts(top, "ls-files", "--stage", "-z"):
        mode, _, name = entry.partition("\t")
        if mode.startswith(_SUBMODULE) and (top / name / ".git").exists():
            yield top / name


def _line(folder: Path, *arguments: str) -> str:
    return "\0".join(_texts(folder, *arguments)).removesuffix("\n")


def _texts(folder: Path, *arguments: str) -> list[str]:
    """Return the output of git as texts that end with a null character; none if git fails."""
    result = run_git(["-C", str(folder), *WITHOUT_PROGRAMS, *arguments])
    output = "" if result.returncode else result.stdout.decode(errors="surrogateescape")
    return output.removesuffix("\0").split("\0") if output else []
