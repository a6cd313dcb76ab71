"""`unharm push` against a hub on loopback, and the folder that it uploads."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.runs.tools.push import check_target, push_folder


@dataclass
class Uploads:
    """What the hub was asked, and how it answers."""

    exists: bool = False
    forbidden: bool = False
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def upload_hub(hub: Uploads) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _answer(self, data: Any, status: int = 200) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command != "GET":
                assert self.headers["Authorization"] == "Bearer hf_secret_token"
            name = self.path.partition("?")[0].removeprefix("/api/")
            if hub.forbidden:
                return self._answer({"error": "no"}, 403)
            if name == "repos/create" and hub.exists:
                return self._answer({"error": "exists"}, 409)
            if "/commit/" in name:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                hub.calls.append(("commit", {}))
                return self._answer(
                    {
                        "commitUrl": f"http://{self.headers['Host']}/org/name/commit/1",
                        "commitOid": "1",
                        "hookOutput": "",
                    }
                )
            data = json.loads(body or b"{}")
            hub.calls.append((name, data))
            if "/preupload/" in name:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in data["files"]
                ]
                return self._answer({"files": files})
            return self._answer(
                {
                    "url": f"http://{self.headers['Host']}/org/name",
                    "id": "org/name",
                    "sha": "1",
                    "siblings": [],
                }
            )

        do_GET = do_POST = do_PUT = _handle

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    (tmp_path / "share" / "adapters").mkdir(parents=True)
    (tmp_path / "share" / "README.md").write_text("# card\n")
    (tmp_path / "share" / "adapters" / "a.safetensors").write_bytes(b"weights")
    return tmp_path / "share"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")


def settings(hub: Uploads) -> list[dict[str, Any]]:
    return [data for name, data in hub.calls if name.endswith("/settings")]


def test_a_repository_is_private_and_gated_before_it_is_filled(content: Path, monkeypatch: Any) -> None:
    hub = Uploads()
    with upload_hub(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        push_folder(content, "org/name", public=True, gated=True, update=False)
    order = [name.rpartition("/")[2] for name, _ in hub.calls]
    assert hub.calls[0][1]["visibility" if "visibility" in hub.calls[0][1] else "private"] in (
        True,
        "private",
    )
    assert settings(hub)[0]["gated"] == "manual"
    assert order.index("settings") < order.index("commit") < len(order) - 1 - order[::-1].index("settings")
    assert hub.files == {"README.md": b"# card\n", "adapters/a.safetensors": b"weights"}


def test_by_default_it_stays_private(content: Path, monkeypatch: Any) -> None:
    hub = Uploads()
    with upload_hub(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        push_folder(content, "org/name", public=False, gated=True, update=False)
    assert settings(hub) == [{"gated": "manual"}]


@pytest.mark.parametrize(
    ("hub", "told"),
    [
        (Uploads(exists=True), "this repository exists already"),
        (Uploads(forbidden=True), "no permission to write"),
    ],
)
def test_what_the_hub_refuses_is_told(content: Path, monkeypatch: Any, hub: Uploads, told: str) -> None:
    with upload_hub(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(UserError, match=told) as error:
            push_folder(content, "org/name", public=False, gated=True, update=False)
    assert "hf_secret_token" not in str(error.value)
    assert hub.files == {}


def test_the_target_is_checked_before_anything_is_written(monkeypatch: Any) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError) as error:
        check_target("name", public=False, gated=False)
    assert len(error.value.problems) == 3


def test_either_a_repository_or_a_folder(tmp_path: Path) -> None:
    def push(*words: str) -> Result:
        return CliRunner().invoke(app, ["push", "runs/x", *words])

    assert "give either --repo or --out" in str(push().exception)
    assert "give either" in str(push("--repo", "a/b", "--out", "x").exception)
    assert "exists already" in str(push("--out", str(tmp_path)).exception)
