"""Python processes that a command under test starts, as forks of a process that has imported everything.

A cold start of a rank, of a sweep's worker, or of an isolated trial costs about ten seconds of CPU time. Here
`subprocess` and joblib get the same child process without them: an idle fork of the requesting process, made before
that has threads, forks twice and its orphan becomes a child of the requesting process (PR_SET_CHILD_SUBREAPER).
The workers of pytest-xdist, and the fork server of each of them, start in the same way: only one process imports.
"""

from __future__ import annotations

import _posixsubprocess
import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import hydratune

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["warmed"])
_SOURCES = Path(hydratune.__file__).parent
# What a run imports sooner or later, after all modules of hydratune itself, except for those of a rank.
IMPORTED = [
    *sorted(
        ".".join(("hydratune", *path.relative_to(_SOURCES).with_suffix("").parts))
        for path in _SOURCES.rglob("[a-z]*.py")
    ),
    "alembic.command",
    "datasets",
    "email.policy",
    "matplotlib.figure",
    "mlflow.models.rag_signatures",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.transformers",
    "mlflow.utils.search_logged_model_utils",
    "optuna.storages",
    "peft",
    "sklearn.metrics",
    "sqlalchemy.dialects.sqlite",
    "tabulate",  # by torch, at the end of each process
    "torch.utils.serialization.config",
    "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.informer.modeling_informer",  # MLflow's and peft's, as is the next
    "transformers.models.time_series_transformer.modeling_time_series_transformer",
    "transformers.pipelines.text_classification",
    "transformers.training_args_seq2seq",
]
_JOB = "submitit.local._local"
# What is forked instead of started; any other command starts as ever.
MODULES = frozenset(
    {
        "hydratune.cli._rank",
        "hydratune.sweep._rank",
        "hydratune.sweep.isolated",
        "joblib.externals.loky.backend.popen_loky_posix",
        "submitit.core._submit",
        _JOB,
    }
)
_WORKER = "import sys;exec(eval(sys.stdin.readline()))"  # by which execnet starts a worker of pytest-xdist
_SERVER = "from multiprocessing.forkserver import main;"  # as a fork server starts, which a worker has
_PYTHON = sys.executable  # before a test replaces it
_HIGH = 1000  # file descriptors from here on are free
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_LARGEST = 2**20  # bytes of a request: arguments and environment
_STANDARD = (6, 9, 11)  # where _posixsubprocess.fork_exec takes the child's stdin, stdout and stderr
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)

_fork_exec = _posixsubprocess.fork_exec
_libc = ctypes.CDLL(None)
_lock = threading.Lock()
_zygote: list[socket.socket] = []  # the connection to the process that forks


def warm() -> None:
    """Do what each command does at its start: import modules, find Hydra's plugins, parse configs, look up packages."""
    for name in IMPORTED:
        importlib.import_module(name)
    for finalizer in [*weakref.finalize._registry]:  # type: ignore[attr-defined]
        # A process that ends need not take apart the operators of torch, which are hundreds.
        if (alive := finalizer.peek()) and getattr(alive[1], "__module__", "") == "torch.library":
            finalizer.atexit = False
    from hydra.core.hydra_config import HydraConfig
    from mlflow.utils.requirements_utils import _init_packages_to_modules_map
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from hydratune.config import composition
    from hydratune.config.project import project_settings
    from hydratune.config.validate import check_config
    from hydratune.utils import hub, provenance, report_style

    request = composition.Request()
    with composition.composer(request):
        check_config(composition.compose_config(request, []))  # finds signatures in the sources of libraries
    HydraConfig.instance().cfg = None
    for answer in (project_settings, hub.is_reachable):  # another one in the directory of a test
        answer.cache_clear()
    for look_up in (provenance.environment, _init_packages_to_modules_map):  # in the metadata of all packages
        look_up()
    report_style.plotly_code()
    get_checkpoint_conversion_mapping("bert")
    _make_once()


def _make_once() -> None:
    """Make tables of MLflow and splits of WordNet once for all tests: each takes a second or more."""
    from mlflow.store.db import utils

    from hydratune.data.builtin.wordnet.database import EVERY
    from hydratune.data.builtin.wordnet.dataset import Wordnet

    if isinstance(utils._initialize_tables, functools.partial):
        return
    utils._logger.disabled = True  # it would tell of tables
    with tempfile.TemporaryDirectory() as folder:
        address = f"sqlite:///{folder}/mlflow.db"
        utils._initialize_tables(utils.create_sqlalchemy_engine(address))
        with contextlib.closing(sqlite3.connect(Path(folder, "mlflow.db"))) as store:
            tables = store.serialize()
    utils._logger.disabled = False
    utils._initialize_tables = functools.partial(_copy_tables, utils._initialize_tables, tables)
    deal = Wordnet.deal
    deals = {parts: deal(types.SimpleNamespace(parts=parts, rows=Wordnet.rows)) for parts in (EVERY, ("noun",))}
    Wordnet.deal = lambda source: deals[source.parts]


def _copy_tables(original: Callable[[Any], None], tables: bytes, engine: Any) -> None:
    """Fill a new database as MLflow does, but from a copy if it is an sqlite file."""
    if engine.dialect.name != "sqlite":
        original(engine)
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as copy, engine.connect() as connection:
        copy.deserialize(tables)
        copy.backup(connection.connection.driver_connection)


def fork(target: Callable[..., object], *args: Any, daemon: bool = False) -> BaseProcess:
    """Run a function in a fork of the fork server, which starts now unless it is running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where the server finds `warmed`
        forkserver.ensure_running()
    process = _FORKS.Process(target=target, args=args, daemon=daemon)
    process.start()
    return process


def install() -> None:
    """Fork the processes of `MODULES` that this process starts; call it before this process has threads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _show([sys.executable, "-m", __name__])
        _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN)
        serve(theirs)
    theirs.close()
    _zygote[:] = [ours]
    replace()


def is_installed() -> bool:
    """Return whether this process has called `install`."""
    return bool(_zygote)


def replace() -> None:
    """Replace the function by which Python starts processes."""
    _posixsubprocess.fork_exec = subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]


def _connection() -> socket.socket:
    """Return the connection to the process that forks; without `install`, that is a fork of the fork server."""
    if not _zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fork(serve, theirs, daemon=True)
        theirs.close()
        _zygote.append(ours)
    return _zygote[0]


def serve(connection: socket.socket) -> None:
    """Fork on request, until the requesting process is gone."""
    gc.freeze()
    while True:
        message, files, _, _ = socket.recv_fds(connection, _LARGEST, 64)
        if not message:
            os._exit(0)
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            if grandchild := os.fork():
                os.write(writer, str(grandchild).encode())
                os._exit(0)
            connection.close()
            os.close(reader)
            os.close(writer)
            _become(json.loads(message), files)
        os.waitpid(child, 0)  # from here on the grandchild is a child of the requesting process
        connection.send(os.read(reader, 20))
        for file in (reader, writer, *files):
            os.close(file)


def fork_exec(*arguments: Any) -> int:
    """Stand in for `_posixsubprocess.fork_exec`: return the ID of the child process."""
    command = [os.fsdecode(one) for one in arguments[0]]
    if not _is_forked(command) or not arguments[2] or arguments[21] is not None:
        return int(_fork_exec(*arguments))
    targets = {number: arguments[place] for number, place in enumerate(_STANDARD)}
    files = {number: file if file >= 0 else number for number, file in targets.items()}
    files |= {int(one): int(one) for one in arguments[3] if one != arguments[13]}
    environment = arguments[5]
    request = {
        "command": command,
        "cwd": os.fsdecode(arguments[4] or Path.cwd()),
        "environment": [os.fsdecode(one) for one in environment]
        if environment is not None
        else [f"{name}={value}" for name, value in os.environ.items()],
        "files": list(files),
        "session": bool(arguments[15]),
    }
    with _lock:
        connection = _connection()
        _libc.prctl(_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(connection, [json.dumps(request).encode()], list(files.values()))
            return int(connection.recv(20))
        except (OSError, ValueError):  # that process was killed
            return int(_fork_exec(*arguments))
        finally:
            _libc.prctl(_SET_CHILD_SUBREAPER, 0)


def _is_forked(command: list[str]) -> bool:
    """Return whether a command is forked instead of started; the first fork server has nothing to be forked from."""
    code = _code(command)
    return _module(command) in MODULES or code == _WORKER or (code.startswith(_SERVER) and is_installed())


def _module(command: list[str]) -> str | None:
    """Return the module that a command of this Python runs."""
    return _value(command, "-m")


def _code(command: list[str]) -> str:
    """Return the code that a command of this Python runs, or an empty string."""
    return _value(command, "-c") or ""


def _value(command: list[str], option: str) -> str | None:
    """Return the value of the option that says what this Python runs."""
    options = [one for one in command if one not in ("-u", "-P", "-B")]
    return options[2] if len(options) > 2 and options[:2] == [_PYTHON, option] else None


def _become(request: dict[str, Any], received: list[int]) -> None:
    """Be the process that a command asks for."""
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, _HIGH) for file in received]
    for file in received:
        os.close(file)
    for number, file in zip(request["files"], high, strict=True):
        os.dup2(file, number)
        os.close(file)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    if request["session"]:
        os.setsid()
    command: list[str] = request["command"]
    _show(command)
    module, code = _module(command), _code(command)
    sys.argv = command[command.index("-m") + 1 :] if module else ["-c"]
    if not code.startswith(_SERVER):  # whose forks may start processes as a user's do
        install()
    sys.stdin = os.fdopen(0, closefd=False)
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # may have children
    before, environment = dict(os.environ), dict(one.split("=", 1) for one in request["environment"])
    enter(request["cwd"], environment)
    _show([], sorted(request["environment"], key=lambda one: one.split("=", 1)[0] in before))  # new ones have room
    _customize(environment)
    if "-P" not in command:
        sys.path.insert(0, request["cwd"])
    if "-u" in command:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)  # runpy's: it was imported before
    if module == _JOB:
        _wait_for_folder(Path(sys.argv[-1].replace("%j", str(os.getpid()))))
    if module:
        end(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    end(lambda: exec(code, vars(main)))  # noqa: S102 (execnet's, or Python's own)


def _wait_for_folder(folder: Path) -> None:
    """Wait for the folder of a job, which submitit creates while a job that is not forked still starts."""
    deadline = time.monotonic() + 60
    while not folder.is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)


def _show(command: list[str], environment: Sequence[str] = ()) -> None:
    """Write a command line, and an environment, to where the system reads those of this process."""
    fields = [int(one) for one in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[1:]]
    for text, start, stop in ((command, *fields[44:46]), (environment, *fields[46:48])):
        if text:
            written = b"\0".join(map(os.fsencode, text))[: stop - start - 1]
            ctypes.memset(start, 0, stop - start)
            ctypes.memmove(start, written, len(written))


def _customize(environment: dict[str, str]) -> None:
    """Import the sitecustomize of PYTHONPATH, as Python does when it starts."""
    folders = [Path(folder) for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    if any((folder / "sitecustomize.py").is_file() for folder in folders):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")


def enter(cwd: Path | str, environment: dict[str, str]) -> None:
    """Have this fork work as a new process would in a directory, with an environment."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    multiprocessing.set_start_method("fork", force=True)  # as in a process that a user starts; for data workers
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end(run: Callable[[], object]) -> None:
    """Run what this process is for, and end as Python does by itself, where multiprocessing would wait for children."""
    code: object = 0
    try:
        run()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
