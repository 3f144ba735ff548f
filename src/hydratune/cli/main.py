"""Entry point of the command line: `hydratune VERB ...`, or `hydratune OVERRIDES` to train."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydratune.config import allowlist, config_folders, servers, trust
from hydratune.config.import_guards import guard_imports
from hydratune.config.project import project_above, project_hint
from hydratune.utils import env_variables, gc_tuning, signals, typed_secrets, watchdog
from hydratune.utils.arguments import VERBOSITY_FLAGS
from hydratune.utils.errors import (
    FAILED,
    INTERRUPTED,
    KEY,
    SAVED,
    TERMINATED,
    USER_ERROR,
    ConfigError,
    Problem,
    similar,
)
from hydratune.utils.logs import guard_output, log_to_terminal, open_streams, set_verbosity
from hydratune.utils.messages import print_error, print_errors
from hydratune.utils.provenance import redact
from hydratune.utils.python_processes import protect_children
from hydratune.utils.telemetry import turn_off_telemetry

# Verb -> the function that takes the remaining arguments and returns the exit code; imported when it is called.
VERBS = {
    "init": "hydratune.cli.init:main",
    "train": "hydratune.cli.train_or_print:main",
    "resume": "hydratune.cli.resume:main",
    "sweep": "hydratune.cli.sweep:main",
    "lr-find": "hydratune.cli.lr_find:main",
    "check": "hydratune.cli.check:main",
    "predict": "hydratune.cli.predict:main",
    "evaluate": "hydratune.cli.evaluate:main",
    "compare": "hydratune.cli.compare:main",
    "runs": "hydratune.cli.runs:main",
    "show": "hydratune.cli.show:main",
    "configs": "hydratune.cli.configs:main",
    "env": "hydratune.cli.env:main",
    "push": "hydratune.cli.push:main",
    "ui": "hydratune.cli.ui:main",
    "sync": "hydratune.cli.sync:main",
    "clean": "hydratune.cli.clean:main",
    "trust": "hydratune.cli.trust:main",
}
_COMPLETION = re.compile(r"[\w./=+~@:,-]+")  # a word in which no shell expands anything but `~`
# Name of a command in other tools -> ours.
_ALIASES = {
    "eval": "evaluate",
    "test": "evaluate",
    "fit": "train",
    "infer": "predict",
    "inference": "predict",
    "ls": "runs",
    "list": "runs",
    "status": "show",
    "info": "env",
    "doctor": "env",
    "gc": "clean",
    "upload": "push",
    "multirun": "sweep",
    "tune": "sweep",
    "diff": "compare",
    "search": "configs",
    "new": "init",
    "create": "init",
    "validate": "check",
    "mlflow": "ui",
}
_EXPORT = "the model of a run is in RUN/model; to upload it, use `hydratune push RUN --to OWNER/NAME`"
# Faults of disks, permissions, memory, and limits of the system, which no command can avoid.
_FAULTS = (
    *(errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE),
    *(errno.EACCES, errno.ELOOP, errno.EPERM),
    *(errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ENOMEM),
)
_LONGEST_NAME = 300  # characters of a name in a message
_GRACE = 10.0  # seconds in which a command ends after a signal, if it is not training and has no child processes
_RESUMABLE = ("train", "resume", "lr-find")  # and `sweep finish`
_LARGE = (*_RESUMABLE, "sweep", "check", "evaluate", "predict")  # verbs that import torch
_NO_DOCSTRINGS = 2  # level of optimization, as in `python -OO`
_ADDRESS_SPACE = 2_500_000  # KB that torch and the other libraries map; with less, torch aborts the process
_UNMAPPED = ("failed to map segment", "cannot allocate memory")  # messages of the dynamic linker


def main() -> None:
    """Run the console script; docs/faults.md lists its exit codes."""
    open_streams()
    gc_tuning.defer_gc()
    protect_children()
    turn_off_telemetry()
    code = SAVED if _is_resumable(sys.argv[1:]) else TERMINATED
    signals.install(code)
    watchdog.start(signals.is_finishing, signals.is_orphan, code, _GRACE)
    guard_output()
    servers.ignore_default_login()
    guard_imports()
    try:
        sys.exit(_dispatch_or_end(sys.argv[1:]))
    except ConfigError as error:
        is_unused = _is_resumable(sys.argv[1:]) and not error.after_start
        print_errors(_with_project(error.problems), "; nothing was run" if is_unused else "")
        sys.exit(USER_ERROR)
    except BrokenPipeError:  # `hydratune configs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports it again at exit
        sys.exit(FAILED)
    except (ImportError, MemoryError, OSError) as error:
        sys.exit(_report_fault(error))
    except UnicodeEncodeError as error:
        sys.exit(_report_name(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)  # below the progress bar
        sys.exit(INTERRUPTED)


def _with_project(problems: Sequence[Problem]) -> list[Problem]:
    """Add the directory of the project to the last error if the command was started below it."""
    *others, last = problems
    if folder := project_above():
        last = replace(last, hint="\n".join(filter(None, (last.hint, project_hint(folder)))))
    return [*others, last]


def _dispatch_or_end(arguments: Sequence[str]) -> int:
    """Run a command; if a library raises an error after a signal interrupted it, raise the exit of the signal."""
    try:
        try:
            return dispatch(arguments)
        finally:
            sys.stdout.flush()  # a closed pipe raises here, not when Python exits
    except Exception:
        signals.raise_pending()
        raise


def _is_resumable(arguments: Sequence[str]) -> bool:
    """Return whether the same command resumes its work after it was asked to end."""
    verb = arguments[0] if arguments else "train"
    return verb not in VERBS or verb in _RESUMABLE or [*arguments[:2]] == ["sweep", "finish"]


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb that comes first, or `train` without a verb; return the exit code."""
    if trust.FLAG in arguments:
        trust.trust_for_this_command()
        arguments = [argument for argument in arguments if argument != trust.FLAG]
    arguments = _without_verbosity(arguments)
    log_to_terminal()
    allowlist.export_allowlist()
    env_variables.register()  # so that the value of `--uri '${oc.env:NAME}'` is masked too
    _check_open_secrets(arguments)
    typed_secrets.record(arguments)
    servers.confirm_typed(arguments)
    config_folders.record_typed(arguments)
    if [*arguments[:1]] == ["help"]:  # `help predict` is `predict --help`
        arguments = [*arguments[1:], "--help"]
    if {"-sc", "--shell-completion"} & {*arguments} and any(text.startswith("query=") for text in arguments):
        return _complete(arguments)
    verb, *rest = arguments or [""]
    if verb == "--version":  # Hydra would print its own version
        from importlib.metadata import version

        print(f"hydratune {version('hydratune')}")
        return 0
    is_word = re.fullmatch(r"[^\W\d]+(-[^\W\d]+)*", verb)  # neither a flag nor an override
    if is_word and not (rest and rest[0].startswith("=")):  # nor the first word of `experiment = first`
        if verb not in VERBS:
            otherwise = _EXPORT if verb in ("deploy", "export") else "list the commands with `hydratune --help`"
            hint = similar("command", _ALIASES.get(verb, verb), VERBS, otherwise)
            raise ConfigError(Problem(verb, f"unknown command {verb!r}", hint))
    else:
        from hydratune.cli.train_or_print import train_or_print

        _check_process()
        return train_or_print(arguments)
    if verb in _LARGE:
        _check_process()
    module, _, function = VERBS[verb].partition(":")
    return getattr(importlib.import_module(module), function)(rest) or 0


def _without_verbosity(arguments: Sequence[str]) -> list[str]:
    """Apply the flags that every command has, and return the other arguments."""
    chosen = {name for name, flags in VERBOSITY_FLAGS.items() if {*flags} & {*arguments}}
    if len(chosen) > 1:
        raise ConfigError(Problem("--quiet", f"{KEY} and --verbose cannot be combined"))
    set_verbosity(next(iter(chosen), None))
    return [argument for argument in arguments if not any(argument in flags for flags in VERBOSITY_FLAGS.values())]


def _complete(arguments: Sequence[str]) -> int:
    """Print the completions of the shell's command line, without words that the shell would expand.

    Bash runs `$(...)` in the words that it gets. Names of files and of config keys may come from someone else.
    """
    from hydratune.cli.train_or_print import train_or_print

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        _offer_commands()
        code = train_or_print(arguments)
    for line in output.getvalue().splitlines():
        print(" ".join(word for word in line.split() if _COMPLETION.fullmatch(word)))
    return code


def _offer_commands() -> None:
    """Print the commands that complete the first word of the shell's command line; Hydra adds groups and keys."""
    line = os.environ.get("COMP_LINE", "")
    words = line[: int(os.environ.get("COMP_POINT") or len(line))].split(" ")
    if len(words) == 2 and words[1]:
        print("\n".join(name for name in VERBS if name.startswith(words[1])))


def _check_open_secrets(arguments: Sequence[str]) -> None:
    """Raise ConfigError for a password in an address that was typed; `check_config` does so for overrides."""
    for argument in arguments:
        is_override = re.match(r"[\w.+~/@]+=", argument)
        if not is_override and redact(argument) != argument:
            text = "the command line contains a password, which every user of this machine can read"
            hint = "export the address as an environment variable, and pass '${oc.env:NAME}' instead"
            raise ConfigError(Problem("--uri", text, hint))


def _check_process() -> None:
    """Raise ConfigError if this process cannot import torch or transformers."""
    if sys.flags.optimize >= _NO_DOCSTRINGS:
        text = f"{KEY}=2 removes docstrings, without which transformers cannot be imported"
        raise ConfigError(Problem("PYTHONOPTIMIZE", text, f"unset {KEY}, or set {KEY}=1"))
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE * 1024:
        text = f"{KEY} is {limit // 1024} KB, but PyTorch needs at least {_ADDRESS_SPACE} KB of address space"
        raise ConfigError(Problem("ulimit -v", text, "run `ulimit -v unlimited`"))


def _os_fault(error: OSError) -> str:
    """Return the system's message, e.g. `no space left on device: '/data/x'`."""
    message = error.strerror or str(error)
    path = "" if error.filename is None else f": {str(error.filename)!r}"
    return message[:1].lower() + message[1:] + path


def _report_fault(error: ImportError | MemoryError | OSError) -> int:
    """Print how to continue after a fault of the disk or the memory, or a removed directory; raise other errors."""
    if isinstance(error, FileNotFoundError) and error.filename and not Path(error.filename).parent.exists():
        print_error(f"the directory {str(Path(error.filename).parent)!r} was removed while the command was running")
        return FAILED
    if isinstance(error, FileNotFoundError) and not _has_cwd():
        print_error("the working directory was removed", "change to another directory")
        return USER_ERROR
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        print_error(_os_fault(error), "use a shorter name")
        return USER_ERROR
    if isinstance(error, OSError) and error.errno not in _FAULTS:
        raise error
    if isinstance(error, ImportError) and not any(text in str(error).lower() for text in _UNMAPPED):
        raise error
    cause = _os_fault(error) if isinstance(error, OSError) else "out of memory; see `ulimit -v`"
    print_error(cause, "run the same command again once this is fixed")
    return FAILED


def _has_cwd() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _report_name(error: UnicodeEncodeError) -> int:
    """Print the name of a file or directory that is not valid UTF-8, which Python decodes to lone surrogates."""
    if error.reason != "surrogates not allowed":
        raise error
    print_error(f"a name is not valid UTF-8: {error.object[:_LONGEST_NAME]!r}", "rename the file or the directory")
    return USER_ERROR
