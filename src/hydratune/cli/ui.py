"""Start the MLflow UI for the store of a run, of a sweep, or of this directory."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, NoReturn

from hydratune.cli.notes import compare_best
from hydratune.cli.open_browser import has_display
from hydratune.cli.run_argument import RUN_FORMS
from hydratune.tracking import delivery
from hydratune.tracking.client import check_locations, existing, sqlite_path, typed_uri
from hydratune.tracking.dead_runs import mark_dead_runs_killed
from hydratune.tracking.experiment_note import write_experiment_note
from hydratune.tracking.journal import not_tracked
from hydratune.tracking.mlflow import Mlflow
from hydratune.tracking.run_lookup import RunLookup
from hydratune.tracking.runs_view import TRAINING, charts_page, runs_page, sweep_page
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value
from hydratune.utils.provenance import redact
from hydratune.utils.python_processes import become_python, start_python
from hydratune.utils.secret_names import is_secret_variable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_WEBHOOKS = "MLFLOW_WEBHOOK_ALLOWED_SCHEMES"
_PROVIDERS = "MLFLOW_GATEWAY_ALLOWED_PROVIDERS"
# Environment variables with the credentials of MLflow's client.
_CREDENTIALS = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_AUTH"),
    *("MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
)
# Number of an error of the operating system -> what to do.
_PORT_HINTS = {errno.EADDRINUSE: "use another port, e.g. --port 5001", errno.EACCES: "use a port from 1024"}


def main(arguments: Sequence[str]) -> None:
    """Print the page's address and, for a local store, become the MLflow server, which Ctrl-C ends."""
    parser = ArgumentParser(prog="hydratune ui", description=__doc__)
    run_help = f"{RUN_FORMS}, or a sweep [default: the store of this directory]"
    parser.add_argument("run", metavar="RUN", nargs="?", help=run_help)
    parser.add_argument("--uri", help=f"MLflow store [default: {Mlflow.uri}]")
    parser.add_argument("--port", type=int, default=5000, help="port [default: %(default)s]")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to [default: %(default)s]")
    parser.add_argument(
        "--allowed-hosts", metavar="HOST:PORT,...", help="host names that the server accepts in requests"
    )
    authentication_help = "allow an address that other machines can reach; their users can change and delete runs"
    parser.add_argument("--study", action="store_true", help="open the study of a sweep in optuna-dashboard instead")
    parser.add_argument("--no-browser", action="store_true", help="print the URL of the page without opening it")
    parser.add_argument("--without-authentication", action="store_true", help=authentication_help)
    args = parser.parse_args(arguments)
    _check_host(args.host, args.without_authentication)
    if args.study:
        _serve_study(args.run, args.host, args.port, opens=not args.no_browser and has_display())
        return
    directory = RunLookup(args.uri).directory(args.run, allows_several=True) if args.run else None
    run_pointers = pointers(directory) if directory else [{"uri": args.uri or Mlflow.uri}]
    pointer = run_pointers[0]
    uri = pointer["uri"] if directory else typed_uri(pointer["uri"])
    remote = uri.startswith("http")
    if not remote:
        check_port(args.host, args.port)
    base = str(redact(uri)).rstrip("/") if remote else f"http://{_named(args.host)}:{args.port}"
    stop = "" if remote else "   (Ctrl-C to stop)"
    client = existing(uri, "--uri", "train a run first, or pass a run directory")
    if path := sqlite_path(uri):
        check_locations(path)
    for run in mark_dead_runs_killed(client):
        print(f"{run.info.run_name}: its process no longer exists; marked as KILLED", flush=True)
    pages = dict(_pages(client, run_pointers, directory))
    for name, page in pages.items():
        print(f"{name}: {base}{page}{stop}", flush=True)
        stop = ""
    address = base + [*pages.values()][-1]  # the most specific page
    opens = not args.no_browser and has_display()
    if remote and opens:
        webbrowser.open(address)
    if not remote:
        if not _is_loopback(args.host):
            print(
                f"warning: no authentication: anyone who can reach {base} can read and delete every run",
                file=sys.stderr,
            )
        if opens:
            _open_later(args.host, args.port, address)
        become_server(uri, args.host, args.port, args.allowed_hosts)


def _pages(
    client: MlflowClient, run_pointers: Sequence[Mapping[str, str]], directory: Path | None
) -> Iterator[tuple[str, str]]:
    """Yield name and path of the pages to print, the most specific one last."""
    pointer = run_pointers[0]
    runs = _page(client, pointer.get("experiment_id"))
    yield "MLflow", runs
    if "viewStateShareKey" in runs:
        yield "charts", charts_page(runs)
    if len(run_pointers) > 1 and directory:
        if sweep := delivery.pointer(directory):
            experiment_id, run_id = sweep["experiment_id"], sweep["run_id"]
            yield "the sweep", f"/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"
            yield f"the {len(run_pointers)} runs side by side", sweep_page(client, experiment_id, run_id)
    elif "run_id" in pointer:
        yield "the run", f"/#/experiments/{pointer['experiment_id']}/runs/{pointer['run_id']}?{TRAINING}"


def _serve_study(name: str | None, host: str, port: int, opens: bool) -> None:
    """Serve the study of a sweep until Ctrl-C."""
    from hydratune.cli.study_server import serve_study
    from hydratune.cli.sweep import open_sweep

    if name is None:
        raise ConfigError(Problem("RUN", "--study needs a sweep", "pass the directory of a sweep"))
    plan, cfg = open_sweep(name)
    check_port(host, port)
    address = f"http://{_named(host)}:{port}"
    print(f"study: {address}   (Ctrl-C to stop)", flush=True)
    if opens:
        _open_later(host, port, address)
    with suppress(KeyboardInterrupt):
        serve_study(plan, cfg, host, port)


def _open_later(host: str, port: int, address: str) -> None:
    """Start a process that opens the browser once the server answers, since this process becomes the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    start_python("hydratune.cli.open_browser", host, str(port), address, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)


def _page(client: MlflowClient, experiment_id: str | None) -> str:
    """Return the path of an experiment's runs page; without an ID, that of the only experiment, or of the list."""
    if experiment_id is None:
        experiment_ids = [
            experiment.experiment_id
            for experiment in client.search_experiments(max_results=3)
            if _has_runs(client, experiment)
        ]
        if len(experiment_ids) != 1:
            return "/#/experiments"
        (experiment_id,) = experiment_ids
    write_experiment_note(client, experiment_id, compare_best)
    return runs_page(client, experiment_id)


def _has_runs(client: MlflowClient, experiment: Experiment) -> bool:
    """Return whether there is anything to show; MLflow creates a `Default` experiment in every store."""
    return experiment.name != "Default" or bool(client.search_runs([experiment.experiment_id], max_results=1))


def _check_host(host: str, allowed: bool) -> None:
    """Raise ConfigError for an address that other machines reach, unless the user allowed it."""
    if not _is_loopback(host) and not allowed:
        text = f"with {KEY} {host!r}, other machines could read, change, and delete every run without a password"
        tunnel = f"omit {KEY} and use a tunnel: ssh -L 5000:127.0.0.1:5000 {socket.gethostname()}"
        raise ConfigError(Problem("--host", text, f"{tunnel}\nadd --without-authentication to allow it"))


def check_port(host: str, port: int) -> None:
    """Raise ConfigError if the server could not listen: its own error is between its log messages, and it exits with 0.

    The printed address would also be that of another program.
    """
    if not 0 < port < 2**16:
        raise ConfigError(invalid_value("--port", "a port from 1 to 65535", port))
    results = [*_listen(host, port)]
    errors = [result for result in results if result]
    port_errors = [error for error in errors if error.errno in _PORT_HINTS]
    if port_errors or len(errors) == len(results):
        error = (port_errors or errors)[0]
        text = f"the server cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}"
        hint = _PORT_HINTS.get(error.errno or 0, "use an address of this machine")
        raise ConfigError(Problem("--port" if port_errors else "--host", text, hint)) from error


def _listen(host: str, port: int) -> Iterator[OSError | None]:
    """Listen on each address of a host for a moment; yield the error of each, or None."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield error
        return
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
        except OSError as error:
            yield error
        else:
            yield None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name
        return False


def _named(host: str) -> str:
    """Return the host for an address: the name of this machine if the server listens everywhere."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def become_server(uri: str, host: str, port: int, hosts: str | None) -> NoReturn:
    """Replace this process by MLflow's server, whose environment has no credentials of clients.

    A store can name artifact stores and models of someone else, to which the server would send them. For a SQLite
    store, the server needs no secrets at all.
    """
    for name in [*os.environ]:
        if name in _CREDENTIALS or (sqlite_path(uri) and is_secret_variable(name)):
            del os.environ[name]
    os.environ.update(server_environment(uri))
    # Without the last flag, it would read and write files in ./mlartifacts, which can be a link.
    arguments = [*server_arguments(host, port, hosts), "--no-serve-artifacts"]
    become_python("mlflow", *arguments)


def server_environment(uri: str) -> dict[str, str]:
    """Return the environment of a server for the store at `uri`; every user of a machine can see arguments."""
    return {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # A store can name servers to notify of changes, and models to call, and it may be someone else's.
        _PROVIDERS: os.environ.get(_PROVIDERS, "none"),
        _WEBHOOKS: os.environ.get(_WEBHOOKS, "none"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two processes instead of ten
        "NETRC": os.devnull,  # a run can name an artifact store of someone else, to which clients send its entries
        "MLFLOW_UVICORN_OPTS": f"--app-dir {os.devnull}",  # else it imports modules of the current directory
        "PYTHONSAFEPATH": "1",  # the same for the processes that the server starts
    }


def server_arguments(host: str, port: int, hosts: str | None = None) -> list[str]:
    """Return the arguments of a server that answers to its own names only; the environment names its store."""
    names = dict.fromkeys(("127.0.0.1", "localhost", _named(host)))
    hosts = hosts or ",".join(f"{name}:{port}" for name in names)
    return ["server", "--host", host, "--port", str(port), "--allowed-hosts", hosts, "--workers", "1"]


def pointers(directory: Path) -> list[dict[str, str]]:
    """Return the pointers to the MLflow runs below a directory, or to its own run.

    Raises:
        ConfigError: None of the runs is in a store.
    """
    run_dirs = [*directory.glob("*/"), *directory.glob("*/*=*/")]
    for folders in (sorted(run_dirs, key=lambda path: (len(str(path)), str(path))), [directory]):
        if run_pointers := [pointer for folder in folders if (pointer := delivery.checked_pointer(folder))]:
            return run_pointers
    raise ConfigError(not_tracked(directory))
