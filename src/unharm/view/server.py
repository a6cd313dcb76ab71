"""The web server: on this machine only, for the holder of its token only.

The address that the command prints has a random token. It becomes a cookie, which every further request
needs. Only requests that name this server as their host are answered, so that no page of the web can reach
it under a name of its own; what changes something must come from a page of this server. Answers forbid the
browser to load anything from elsewhere.
"""

from __future__ import annotations

import hmac
import secrets
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from unharm.core.errors import UserError
from unharm.core.terminal import warn
from unharm.view.answer import Answer, Query

HOST = "127.0.0.1"
PORT = 8377
"""The port where it is free. A fixed one keeps links of earlier sessions right."""
TRIES = 20
"""Ports that are tried after it."""
LONGEST_BODY = 65536
"""Bytes of a request's body."""
SECONDS = 30.0
"""A connection that is silent for this long is closed."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Get = Callable[[str, Query], Answer]
Post = Callable[[str, bytes], Answer]


class Server(ThreadingHTTPServer):
    """Serves pages. `get` answers a path with its query, `post` a path with a body of JSON.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, get: Get, post: Post, port: int):
        self.get, self.post = get, post
        self.token = secrets.token_urlsafe(24)
        super().__init__((HOST, port), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names by which requests may call this server."""
        return f"{HOST}:{self.port}", f"localhost:{self.port}"

    @property
    def cookie(self) -> str:
        """The name of its cookie. Browsers send cookies to all ports of a host, so it has the port."""
        return f"unharm-{self.port}"

    def address(self, path: str = "/") -> str:
        """Return the address of a page with the token."""
        parts = urlsplit(path)
        query = f"{parts.query}&" if parts.query else ""
        return f"http://{HOST}:{self.port}{parts.path or '/'}?{query}{urlencode({'token': self.token})}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away; other errors are ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            warn(traceback.format_exc())


def open_server(get: Get, post: Post, port: int | None = None) -> Server:
    """Open a server on a port; without one on `PORT`, the first free one after it, or any.

    Whoever binds first has a port, so each is tried by binding: two viewers may start at once.

    Raises:
        UserError: The port that was asked for is taken.
    """
    reason = ""
    for number in (*range(PORT, PORT + TRIES), 0) if port is None else (port,):
        try:
            return Server(get, post, number)
        except OSError as error:
            reason = error.strerror or str(error)
    raise UserError(
        f"port {port or HOST} cannot be used: {reason}",
        "--port",
        "another program uses it; leave --port out to take a free one",
    )


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "unharm"
    sys_version = ""
    timeout = SECONDS
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=200)
        if not self._right_host():
            return
        given = query.pop("token", [""])[-1]
        if given and hmac.compare_digest(given.encode(), self.server.token.encode()):
            self._send(self._entry(parts.path, query))
        elif self._known():
            self._send(self.server.get(parts.path, query))
        else:
            self._refuse(
                "Open the address that the command 'unharm view' printed; it has the key to this page."
            )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        if not self._right_host():
            return
        origins = [f"http://{host}" for host in self.server.hosts]
        own = self.headers.get("Origin") in origins
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        length = self.headers.get("Content-Length", "")
        if not (self._known() and own and kind == "application/json"):
            self._refuse("This request does not come from a page of this server.")
        elif not length.isdigit() or int(length) > LONGEST_BODY:
            self.close_connection = True
            self._send(Answer(b"too long", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain"))
        else:
            self._send(self.server.post(urlsplit(self.path).path, self.rfile.read(int(length))))

    def _entry(self, path: str, query: Query) -> Answer:
        """Hand the cookie out and lead to the address without the token."""
        rest = urlencode(query, doseq=True)
        place = "/" + path.lstrip("/") + (f"?{rest}" if rest else "")
        cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Lax"
        return Answer(b"", HTTPStatus.SEE_OTHER, "text/plain", {"Location": place, "Set-Cookie": cookie})

    def _right_host(self) -> bool:
        """Refuse requests under another name: a page elsewhere may have pointed its name here."""
        if self.headers.get("Host") in self.server.hosts:
            return True
        self._refuse("This server answers under its own address only.", HTTPStatus.MISDIRECTED_REQUEST)
        return False

    def _known(self) -> bool:
        """Return whether the request has the cookie."""
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return False
        given = cookies.get(self.server.cookie)
        return given is not None and hmac.compare_digest(given.value.encode(), self.server.token.encode())

    def _refuse(self, sentence: str, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        self.close_connection = True  # its body is not read
        self._send(Answer(sentence.encode(), status, "text/plain"))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        kind = answer.kind + ("; charset=utf-8" if answer.kind.startswith("text/") else "")
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(answer.body)),
            **HEADERS,
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: addresses have the token and words that were searched for."""
