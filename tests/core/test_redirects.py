"""No request leaves the host that a study names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unharm.core.redirects import guarded_client, leads_away


class Server(ThreadingHTTPServer):
    """Remembers the bodies that it got; answers with a redirect to `target` where it has one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = ""
        self.got: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.target and self.path != "/here":
            self.send_response(307)
            self.send_header("Location", self.server.target)
        else:
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    pair = Server(), Server()
    yield pair
    for server in pair:
        server.shutdown()
        server.server_close()


def test_another_host_gets_nothing(servers: tuple[Server, Server]) -> None:
    asked, other = servers
    asked.target = f"{other.url}/there"
    with guarded_client(5) as client:
        answer = client.post(asked.url, content=b"a prompt")
    assert leads_away(answer.status_code)
    assert (asked.got, other.got) == ([b"a prompt"], [])


def test_a_redirect_on_the_same_host_is_followed(servers: tuple[Server, Server]) -> None:
    asked, _ = servers
    asked.target = "/here"
    with guarded_client(5) as client:
        answer = client.post(asked.url, content=b"a prompt")
    assert answer.status_code == 200
    assert asked.got == [b"a prompt", b"a prompt"]
