"""A Hugging Face hub on loopback: enough of its HTTP to download datasets and models and to push a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: mrpc
  data_files:
  - {split: train, path: mrpc/train-*}
  - {split: validation, path: mrpc/validation-*}
  - {split: test, path: mrpc/test-*}
---
"""


@dataclass
class FakeHub:
    """Serves `root/datasets/REPO/...` and `root/models/REPO/...`; keeps what was created and pushed.

    Args:
        faults: Pattern of a request -> what to answer the next ones with: a status, `drop` to hang up, `hang` to
            answer nothing, or `stall` to send half of a file and then nothing. Weights are large files; a `drop` of
            those comes when half of them has been read.
        settings: Repository -> whether it is private.
    """

    root: Path
    url: str = ""
    log: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    pushed: dict[str, bytes] = field(default_factory=dict)  # path in the repository -> content
    large: dict[str, bytes] = field(default_factory=dict)  # sha256 -> content of an uploaded file
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    settings: dict[str, bool] = field(default_factory=dict)
    on_request: Callable[[int], None] | None = None  # called with the number of each request, from 1
    hanging: threading.Event = field(default_factory=threading.Event)  # a request waits
    closing: threading.Event = field(default_factory=threading.Event)

    def next_fault(self, request: str) -> int | str | None:
        """What is to go wrong with a request."""
        found = next((queue for pattern, queue in self.faults.items() if re.search(pattern, request) and queue), [None])
        return found.pop(0) if found != [None] else None


def write_files(root: Path, tiny_model: Path) -> Path:
    """Write a hub's files: GLUE's MRPC of a few rows, and the tiny network under the name of BERT."""
    import pandas as pd

    glue = root / "datasets" / "nyu-mll" / "glue"
    (glue / "mrpc").mkdir(parents=True)
    (glue / "README.md").write_text(CARD)
    rows = [{"sentence1": "good film", "sentence2": "bad book", "label": i % 2, "idx": i} for i in range(16)]
    for split in ("train", "validation", "test"):
        pd.DataFrame(rows).to_parquet(glue / "mrpc" / f"{split}-00000-of-00001.parquet", index=False)
    shutil.copytree(tiny_model, root / "models" / "google-bert" / "bert-base-uncased")
    return root


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
        hub.closing.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    _stalls = False  # whether only half of this answer is sent

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

    def _note(self) -> None:
        self.hub.log.append(f"{self.command} {self.path}")
        if self.hub.on_request:
            self.hub.on_request(len(self.hub.log))

    def _read(self, share: float = 1) -> bytes:
        return self.rfile.read(int(int(self.headers.get("Content-Length", 0)) * share))

    def _fails(self) -> bool:
        """Whether the request was to go wrong, and has."""
        fault = self.hub.next_fault(f"{self.command} {self.path}")
        if fault == "drop":
            self._read(0.5)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "hang":
            self.hub.hanging.set()
            self.hub.closing.wait()
        elif fault == "stall":
            self._stalls = True
            return False
        elif fault is not None:
            self._read()
            self._send(int(fault))
        return fault is not None

    def _send(self, status: int, content: bytes = b"", body: bool = True, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body and self._stalls:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.hub.hanging.set()
            self.hub.closing.wait()
        elif body:
            self.wfile.write(content)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), Content_Type="application/json")

    def _missing(self, body: bool = True) -> None:
        self._send(404, b"", body, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)

    def _get(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self._note()
        self._stalls = False
        if self._fails():
            return None
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
            if kind == "models" and repo in self.hub.settings:
                return self._json({"id": repo, "sha": COMMIT, "private": self.hub.settings[repo], "tags": []})
            if not folder.is_dir():
                return self._send(404, b"", body, X_Error_Code="RepoNotFound")
            if rest and rest.startswith("/tree/"):
                return self._json(self._entries(folder, rest.split("/", 3)[3:]))
            files = [{"rfilename": str(f.relative_to(folder))} for f in folder.rglob("*") if f.is_file()]
            return self._json({"id": repo, "sha": COMMIT, "siblings": files, "private": False, "tags": []})
        return self._missing(body)

    def _upload(self, path: str, content: bytes) -> None:
        """The requests of a push, in their order."""
        if path == "/api/repos/create":
            return self._create(json.loads(content))
        if path == "/api/validate-yaml":
            return self._json({"warnings": [], "errors": []})
        if path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(content)["files"]]
            return self._json({"files": [self._mode(name) for name in files]})
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(content)["objects"]
            return self._json(
                {"transfer": "basic", "objects": [self._place(one["oid"], one["size"]) for one in objects]}
            )
        if path.startswith("/upload/"):
            self.hub.large[path.removeprefix("/upload/")] = content
            return self._send(200)
        if path.endswith("/settings"):
            self.hub.settings[path.split("/", 3)[3].removesuffix("/settings")] = (
                json.loads(content)["visibility"] == "private"
            )
            return self._json({})
        for line in content.splitlines():
            item, value = json.loads(line)["key"], json.loads(line)["value"]
            if item == "file":
                self.hub.pushed[value["path"]] = base64.b64decode(value["content"])
            elif item == "lfsFile":
                self.hub.pushed[value["path"]] = self.hub.large[value["oid"]]
        return self._json({"commitUrl": f"{self.hub.url}/me/tiny/commit/{COMMIT}", "commitOid": COMMIT})

    def _create(self, wanted: dict[str, Any]) -> None:
        self.hub.created.append(wanted)
        repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        status = 409 if repo in self.hub.settings else 200
        self.hub.settings.setdefault(repo, wanted.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{repo}", "id": repo}, status)

    def _mode(self, name: str) -> dict[str, Any]:
        """How a file is to be sent, and git's name of the one that is there."""
        mode = "lfs" if name.endswith(".safetensors") else "regular"
        there = self.hub.pushed.get(name)
        if there is not None and mode == "lfs":
            there = hashlib.sha256(there).hexdigest()
        elif there is not None:
            there = hashlib.sha1(b"blob %d\0" % len(there) + there).hexdigest()  # noqa: S324 (git's)
        return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": there}

    def _place(self, oid: str, size: int) -> dict[str, Any]:
        """Where to send a large file; nowhere if it is there."""
        upload = {"actions": {"upload": {"href": f"{self.hub.url}/upload/{oid}"}}} if oid not in self.hub.large else {}
        return {"oid": oid, "size": size, **upload}

    def _entries(self, folder: Path, below: list[str]) -> list[dict[str, Any]]:
        start = folder.joinpath(*below)
        found = []
        for path in sorted(start.rglob("*")):
            entry = {"path": str(path.relative_to(folder)), "oid": "0" * 40}
            kind = {"type": "file", "size": path.stat().st_size} if path.is_file() else {"type": "directory", "size": 0}
            found.append({**entry, **kind})
        return found

    def _write(self) -> None:
        self._note()
        if self._fails():
            return None
        path, content = urlsplit(self.path).path, self._read()
        if match := re.fullmatch(r"/api/(datasets|models)/(.+)/paths-info/[^/]+", path):
            folder = self.hub.root / match[1] / match[2]
            wanted = json.loads(content)["paths"] if content.startswith(b"{") else []
            return self._json([entry for entry in self._entries(folder, []) if entry["path"] in wanted])
        if path.startswith(("/api/", "/upload/")) or path.endswith("/objects/batch"):
            return self._upload(path, content)
        return self._missing()
