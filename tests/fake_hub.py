"""A Hugging Face hub on loopback: enough of its HTTP to download datasets and models and to push a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Serves `root/datasets/REPO/...` and `root/models/REPO/...`; keeps what was created and pushed."""

    root: Path
    url: str = ""
    log: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    pushed: dict[str, bytes] = field(default_factory=dict)  # path in the repository -> content


@contextmanager
def serve(root: Path) -> Iterator[FakeHub]:
    """A hub that runs inside the `with` block."""
    hub = FakeHub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, content: bytes = b"", body: bool = True, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), Content_Type="application/json")

    def _missing(self, body: bool = True) -> None:
        self._send(404, b"", body, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)

    def _get(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append(f"{self.command} {self.path}")
        if match := re.fullmatch(r"/(datasets/)?(.+)/resolve/[^/]+/(.+)", path):
            kind, repo, name = match.groups()
            file = self.hub.root / (kind or "models/") / repo / name
            if not file.is_file():
                return self._missing(body)
            data = file.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            return self._send(200, data, body, ETag=etag, X_Repo_Commit=COMMIT, Accept_Ranges="bytes")
        if match := re.fullmatch(r"/api/(datasets|models)/(.+?)(/revision/[^/]+|/tree/[^/]+(?:/.*)?)?", path):
            kind, repo, rest = match.groups()
            folder = self.hub.root / kind / repo
            if not folder.is_dir():
                return self._send(404, b"", body, X_Error_Code="RepoNotFound")
            if rest and rest.startswith("/tree/"):
                return self._json(self._entries(folder, rest.split("/", 3)[3:]))
            files = [{"rfilename": str(f.relative_to(folder))} for f in folder.rglob("*") if f.is_file()]
            return self._json({"id": repo, "sha": COMMIT, "siblings": files, "private": False, "tags": []})
        return self._missing(body)

    def _entries(self, folder: Path, below: list[str]) -> list[dict[str, Any]]:
        start = folder.joinpath(*below)
        found = []
        for path in sorted(start.rglob("*")):
            entry = {"path": str(path.relative_to(folder)), "oid": "0" * 40}
            kind = {"type": "file", "size": path.stat().st_size} if path.is_file() else {"type": "directory", "size": 0}
            found.append({**entry, **kind})
        return found

    def _write(self) -> None:
        path, content = urlsplit(self.path).path, self._read()
        self.hub.log.append(f"{self.command} {self.path}")
        if match := re.fullmatch(r"/api/(datasets|models)/(.+)/paths-info/[^/]+", path):
            folder = self.hub.root / match[1] / match[2]
            wanted = json.loads(content)["paths"] if content.startswith(b"{") else []
            return self._json([entry for entry in self._entries(folder, []) if entry["path"] in wanted])
        if path == "/api/repos/create":
            self.hub.created.append(json.loads(content))
            name = self.hub.created[-1]["name"]
            owner = self.hub.created[-1].get("organization") or "me"
            return self._json({"url": f"{self.hub.url}/{owner}/{name}", "id": f"{owner}/{name}"})
        if path.endswith("/preupload/main"):
            files = json.loads(content)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return self._json({"files": modes})
        if path.endswith("/commit/main"):
            for line in content.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    self.hub.pushed[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            return self._json({"commitUrl": f"{self.hub.url}/me/tiny/commit/{COMMIT}", "commitOid": COMMIT})
        return self._missing()
