"""A static server on loopback that answers like the model hub."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Hub:
    """Models by `org/name`, each with its folders by revision; `gated` ones are refused. `fetched` lists
    the files that were downloaded."""

    models: dict[str, dict[str, Path]]
    gated: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    url: str = ""

    def commit(self, name: str, revision: str) -> str:
        return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()

    def revision(self, name: str, given: str) -> str | None:
        for revision in self.models.get(name, {}):
            if given in (revision, self.commit(name, revision)):
                return revision
        return None


@contextmanager
def hub_server(hub: Hub) -> Iterator[Hub]:
    """Serve the models of `hub`; its `url` is set inside."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def _error(self, status: int, code: str, body: bool) -> None:
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, body)

        def _answer(self, body: bool) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            parts = parts[2:] if api else parts
            name = "/".join(parts[:2])
            if name not in hub.models:
                return self._error(404, "RepoNotFound", body)
            if name in hub.gated:
                return self._error(403, "GatedRepo", body)
            revision = hub.revision(name, parts[3] if len(parts) > 3 else "main")
            if revision is None:
                return self._error(404, "RevisionNotFound", body)
            folder, commit = hub.models[name][revision], hub.commit(name, revision)
            if api:
                files = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
                info = {"id": name, "modelId": name, "sha": commit, "private": False, "downloads": 0,
                        "tags": [], "siblings": [{"rfilename": f} for f in files]}  # fmt: skip
                if parts[2:3] == ["tree"]:
                    rows = [{"type": "file", "path": f, "oid": "0" * 40,
                             "size": (folder / f).stat().st_size} for f in files]  # fmt: skip
                    return self._send(
                        200, json.dumps(rows).encode(), {"Content-Type": "application/json"}, body
                    )
                return self._send(
                    200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body
                )
            file = folder / "/".join(parts[4:])
            if not file.is_file():
                return self._error(404, "EntryNotFound", body)
            data = file.read_bytes()
            if body:
                hub.fetched.append("/".join(parts[4:]))
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                       "Content-Type": "application/octet-stream"}  # fmt: skip
            return self._send(200, data, headers, body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
