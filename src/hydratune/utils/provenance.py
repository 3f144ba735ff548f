"""Provenance of a run (code, libraries, command), and masking of secrets in its records."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydratune.utils import env_variables, typed_secrets
from hydratune.utils.secret_encodings import SHORTEST, contains_secret, replace_secret
from hydratune.utils.secret_names import LABELS, is_secret, is_secret_variable
from hydratune.utils.secret_patterns import MASK, address_secrets, is_address, mask

PACKAGES = ("hydratune", "transformers", "datasets", "torch", "accelerate", "mlflow", "hydra-core")
_LONGEST_DIFF = 1_000_000  # characters
_GIT_SECONDS = 10
_STATUS = ("status", "--porcelain", "--ignore-submodules=all")
_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
WITHOUT_PROGRAMS = ("--no-pager", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_EMPTY, _FALSE = "HYDRATUNE_GIT_EMPTY", "HYDRATUNE_GIT_FALSE"  # variables with values for git's `--config-env`

_DEFAULT_PASSWORDS = ("password", "postgres")


def git_commit() -> str | None:
    """Return the commit of the current directory, with the suffix `-dirty` if it has uncommitted changes.

    Returns:
        None outside a repository.

    Raises:
        OSError: Git is not installed, or the repository has no commit or cannot be read.
        subprocess.TimeoutExpired: Git needs more than 10 seconds.
    """
    if not (root := _repository()):
        return None
    git = _git(root)
    return git("rev-parse", "--verify", "HEAD") + ("-dirty" if git(*_STATUS) else "")


@functools.cache
def versions() -> dict[str, str]:
    """Return package -> version for everything that a result depends on, including Python."""
    from importlib.metadata import PackageNotFoundError, version  # takes 30 ms, and only runs need it

    package_versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            package_versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return package_versions


def git_diff() -> str:
    """Return the uncommitted changes and the names of changed files; empty outside a repository.

    Raises:
        OSError: Git is not installed, or the repository has no commit or cannot be read.
        subprocess.TimeoutExpired: Git needs more than 10 seconds.
    """
    if not (root := _repository()):
        return ""
    git = _git(root)
    for name in git("ls-files", "-z").split("\0"):  # of the index, whose paths git does not check
        if name.startswith("/") or ".." in name.split("/"):
            raise OSError(f"the index of the repository names a file elsewhere: {name!r}")
    status, diff = git(*_STATUS), git("diff", *_DIFF, "HEAD")
    text = f"{status}\n\n{diff}" if status else ""
    suffix = f"\n... {len(text) - _LONGEST_DIFF:,} more characters" if len(text) > _LONGEST_DIFF else ""
    # Twice the length is masked, so that no secret is cut before it is masked.
    return str(redact(text[: 2 * _LONGEST_DIFF]))[:_LONGEST_DIFF] + suffix


@functools.cache  # a call takes as long as ten steps of a small model
def environment() -> str:
    """Return a text with the machine and the version of every installed package, from the first call."""
    from importlib.metadata import distributions

    packages = sorted({f"{dist.name}=={dist.version}" for dist in distributions()}, key=str.lower)
    return "\n".join([f"# Python {sys.version}", f"# {platform.platform()}", f"# {platform.node()}", *packages, ""])


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def cli_path() -> str:
    """Return how the user can type `hydratune` here: by name if the shell finds this one, else by its path."""
    own_path = Path(sys.executable).with_name("hydratune")
    shell_path = shutil.which("hydratune")
    if not own_path.is_file() or (shell_path and Path(shell_path).resolve() == own_path.resolve()):
        return "hydratune"
    return os.path.relpath(own_path)


def command(flags: list[str], overrides: list[str]) -> str:
    """Return the shell command that composes the same run again, without our own `++` and with masked secrets."""
    return shlex.join(["hydratune", *flags, *redacted_overrides(overrides)])


def redacted_overrides(overrides: list[str]) -> list[str]:
    """Return overrides as the user typed them, without our own `++` and with masked secrets."""
    pairs = [override.removeprefix("++").partition("=") for override in overrides]
    return [key + equals + str(redact(value, key)) for key, equals, value in pairs]


def redact(value: Any, key: str = "") -> Any:
    """Return a copy in which secrets are masked, wherever they occur.

    Secrets are:

    - values under keys that name a secret
    - passwords in addresses
    - tokens of known providers
    - values of environment variables that have the name of a secret, or that a config has resolved
    - values that the user has typed for keys and flags that name a secret
    """
    typed = filter(_is_masked, typed_secrets.values)
    secrets = {**dict.fromkeys((*_of_environment(), *_of_configs(), *typed), MASK), **_addresses()}
    return _masked(value, key, dict(sorted(secrets.items(), key=lambda item: len(item[0]), reverse=True)))


def has_literal_secret(text: str, passwords: Collection[str] = ()) -> bool:
    """Return whether a text holds a secret of the environment, a token of a known provider, or a password.

    Args:
        text: Text of a config, without its interpolations or with resolved ones.
        passwords: Passwords of addresses; see `passwords_of`.
    """
    secrets = (*_of_environment(), *passwords)
    return bool(mask(text) != text) or any(contains_secret(text, secret) for secret in secrets)


def passwords_of(addresses: Iterable[str]) -> set[str]:
    """Return the passwords of addresses, and of those that configs have resolved, that no other text may contain."""
    resolved_texts = (*addresses, *env_variables.resolved().values())
    return {part for text in resolved_texts for part in address_secrets(text) if _is_masked(part)}


def _masked(value: Any, key: str, secrets: Mapping[str, str]) -> Any:
    """Replace secrets in a value; `secrets` maps each secret to its replacement, with the longest first."""
    if value is not None and is_secret(key):
        return MASK
    if isinstance(value, dict):
        return {name: _masked(inner, "" if key in LABELS else str(name), secrets) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, key, secrets) for inner in value]
    if not isinstance(value, str):
        return value
    for secret, replacement in secrets.items():
        value = replace_secret(value, secret, replacement)
    return mask(value)


def _of_environment() -> list[str]:
    """Return the values of environment variables that have the name of a secret, the longest first."""
    secrets = {value for name, value in os.environ.items() if is_secret_variable(name) and _is_masked(value)}
    return sorted(secrets, key=len, reverse=True)


def _is_masked(value: str) -> bool:
    """Return whether a value of a variable is masked.

    A part of the shipped configs, e.g. `training`, is public, and so are the default passwords of databases. Without
    such words, records and messages would be useless.
    """
    return len(value) >= SHORTEST and value not in _DEFAULT_PASSWORDS and value not in _shipped_configs()


@functools.cache
def _shipped_configs() -> str:
    spec = importlib.util.find_spec("hydratune.conf")
    assert spec is not None and spec.origin is not None  # a part of this distribution
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(spec.origin).parent.rglob("*.yaml")))


def _of_configs() -> set[str]:
    """Return the values that configs have taken from the environment, except for addresses, paths, and numbers.

    The password of an address is masked separately, because the rest of the address must still identify the store.
    """
    values = env_variables.resolved().values()
    return {
        value
        for value in values
        if _is_masked(value)
        and "://" not in value
        and not value.startswith(("/", "~", "."))
        and not value.replace(".", "").isdecimal()
    }


def _addresses() -> dict[str, str]:
    """Return the replacements of the addresses in the environment, and of the passwords in them.

    Libraries read many of these variables themselves, e.g. HTTPS_PROXY and HF_ENDPOINT.
    """
    proxies = (value for name, value in os.environ.items() if name.lower().endswith("_proxy"))
    proxies = (f"http://{value}" for value in proxies if not is_address(value))
    values = {*filter(is_address, (*os.environ.values(), *proxies)), *env_variables.resolved().values()}
    return {text: replacement for value in values for text, replacement in _of_address(value).items()}


@functools.lru_cache(maxsize=1000)  # each line of output needs those of all variables
def _of_address(value: str) -> dict[str, str]:
    masked = mask(value)
    if masked == value:
        return {}
    return {value: masked, **dict.fromkeys(filter(_is_masked, address_secrets(value)), MASK)}


def _repository() -> Path | None:
    """Return the directory with `.git` that contains the current directory; None outside a repository."""
    cwd = Path.cwd()
    return next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), None)


def _git_directory(root: Path) -> Path:
    """Return the Git directory of a repository, which may be elsewhere for a worktree or a submodule.

    A diff shows the content of the repository, so someone else's `.git` must not lead to a repository of the user.

    Raises:
        OSError: It leads to a repository that does not know this directory, or that takes its objects from another one.
    """
    path = root / ".git"
    common = path
    if path.is_file():
        path = root / path.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        common = path.parent.parent if path.parent.name == "worktrees" else path
        if not (_is_worktree(path, common, root) or _is_submodule(path, root)):
            raise OSError(f"{root / '.git'} leads to a repository that does not know this directory")
    elif (path / "commondir").exists():
        raise OSError(f"{path} takes its objects from another repository")
    entries = (
        *common.iterdir(),
        *common.glob("objects/*"),
        *common.glob("objects/*/*"),
        *common.glob("refs/**/*"),
        common,
    )
    if (common / "objects/info/alternates").exists() or any(entry.is_symlink() for entry in entries):
        raise OSError(f"{common} takes its objects from another repository")
    return path


def _is_worktree(path: Path, common: Path, root: Path) -> bool:
    gitdir_file, commondir_file = path / "gitdir", path / "commondir"
    if not (gitdir_file.is_file() and commondir_file.is_file()):
        return False
    is_own = Path(gitdir_file.read_text(encoding="utf-8").strip()).resolve() == (root / ".git").resolve()
    return is_own and (path / commondir_file.read_text(encoding="utf-8").strip()).resolve() == common.resolve()


def _is_submodule(path: Path, root: Path) -> bool:
    if (path / "commondir").exists():
        return False
    config = run_git(["config", "--file", str(path / "config"), "core.worktree"]).stdout
    worktree = config.decode(errors="surrogateescape").strip()
    return bool(worktree) and (path / worktree).resolve() == root.resolve()


def _git(root: Path) -> Callable[..., str]:
    """Return a function that runs git in a repository and returns its output.

    Bytes that are not UTF-8, which a diff may contain, become escape sequences. The repository may have come from
    someone else, with a `.git/config` that names programs. None of them runs, also not in submodules: no monitor of
    files, hook, pager, external diff, text conversion, filter, or transport. And the files are those of the repository:
    its config must not name another directory, whose content a diff would show.
    """
    location_options = (f"--git-dir={_git_directory(root)}", f"--work-tree={root}")
    options = [*location_options, *WITHOUT_PROGRAMS, *_without_filters(location_options)]

    def run(*arguments: str) -> str:
        result = run_git([*options, *arguments])
        if result.returncode:
            raise OSError(result.stderr.decode(errors="replace").strip().partition("\n")[0])
        return result.stdout.decode(errors="backslashreplace").strip()

    return run


def _without_filters(location_options: Sequence[str]) -> list[str]:
    """Return the options that turn off each filter in git's config; listing the filters runs no program.

    `-c NAME=VALUE` would end a name at its first `=`, and the repository may call a filter `a=b`.
    """
    output = run_git([*location_options, "config", "--null", "--name-only", "--get-regexp", r"^filter\."]).stdout
    names = {name.rpartition(".")[0] for name in output.decode(errors="surrogateescape").split("\0") if name}
    values = {"clean": _EMPTY, "smudge": _EMPTY, "process": _EMPTY, "required": _FALSE}
    return [f"--config-env={name}.{key}={variable}" for name in sorted(names) for key, variable in values.items()]


def run_git(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run git without transports; raise OSError without git, and subprocess.TimeoutExpired after 10 seconds."""
    environment = {**os.environ, "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
    environment |= {_EMPTY: "", _FALSE: "false"}
    command = ["git", *arguments]  # git is found on PATH, as the user's shell would find it
    return subprocess.run(command, capture_output=True, check=False, timeout=_GIT_SECONDS, env=environment)
