"""optuna-dashboard on the study of a sweep, for `hydratune ui SWEEP --study`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hydratune.config.instantiate import build
from hydratune.sweep.study import Study
from hydratune.utils.errors import KEY, ConfigError, Problem

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from hydratune.sweep.plan import Plan

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-src 'none'; object-src 'none'; base-uri 'none'; form-action 'self'"
)
App = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve_study(plan: Plan, cfg: DictConfig, host: str, port: int) -> None:
    """Serve the study of a sweep until Ctrl-C.

    Raises:
        ConfigError: optuna-dashboard is not installed.
    """
    try:
        from optuna_dashboard import wsgi  # type: ignore[import-untyped]
    except ImportError as error:
        text = f"{KEY} needs the package optuna-dashboard"
        raise ConfigError(Problem("--study", text, "pip install optuna-dashboard")) from error
    from wsgiref.simple_server import make_server

    app = only_for_hosts(
        wsgi(Study(plan, build(cfg.sweep)).storage), {f"{name}:{port}" for name in (host, "localhost")}
    )
    with make_server(host, port, app) as server:
        server.serve_forever()


def only_for_hosts(app: Any, hosts: Iterable[str]) -> App:
    """Return an app that serves only its own pages, and no pages of others.

    It refuses other names of this server and requests from other pages, which could read or change the study. Notes in
    the study of someone else can contain HTML, so its pages request nothing from other servers.
    """
    allowed = {*hosts}
    origins = {None, *(f"http://{host}" for host in allowed)}

    def guarded(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_HOST") not in allowed or environ.get("HTTP_ORIGIN") not in origins:
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"unknown host"]

        def start(status: str, headers: Iterable[tuple[str, str]], *exception: Any) -> Any:
            return start_response(status, [*headers, ("Content-Security-Policy", _POLICY)], *exception)

        return app(environ, start)

    return guarded
