"""Who may read the pages: the holder of the token, under the server's own address, and nobody else."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from support.view import Client
from unharm.core.errors import UserError
from unharm.view import server as web
from unharm.view.answer import Answer
from unharm.view.server import Server, open_server


def test_the_token_becomes_a_cookie(server: Server) -> None:
    parts = urlsplit(server.address("/prompts?arm=vim"))
    assert parts.hostname == "127.0.0.1"
    reply = Client(server.port).get(f"{parts.path}?{parts.query}")
    assert reply.status == 303
    assert reply.headers["location"] == "/prompts?arm=vim"
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    page = Client(server.port, cookie.partition(";")[0]).get("/prompts?arm=vim")
    assert page.status == 200
    assert server.token not in page.text


@pytest.mark.parametrize(
    "cookie", ["", "unharm=1", "{name}=wrong", "other={token}", "{name}=", "{name}=\xe9"]
)
def test_without_the_token_nothing_is_shown(server: Server, cookie: str) -> None:
    given = cookie.format(name=server.cookie, token=server.token)
    for path in ("/prompts", "/view.js", "/?token=wrong", "/?token=", "/?token=%C3%A9"):
        reply = Client(server.port, given).get(path)
        assert reply.status == 403
        assert "rtp" not in reply.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "0.0.0.0:{port}", "[::1]:{port}"]
)
def test_other_hosts_are_refused_even_with_the_token(server: Server, client: Client, host: str) -> None:
    host = host.format(port=server.port)
    assert client.get("/prompts", Host=host).status == 421
    assert client.get(f"/?token={server.token}", Host=host).status == 421
    assert client.post("/label/save", {}, Host=host).status == 421


def test_every_answer_forbids_other_hosts(client: Client) -> None:
    for path in ("/prompts", "/prompt?prompt=rtp-1", "/nothing", "/view.css", "/prompts?low=x"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy.pop("default-src") == "'none'"
        assert all(set(value.split()) <= {"'self'", "'none'", "data:"} for value in policy.values())
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": ""},
        {"Origin": "null"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Cookie": "other=1"},
    ],
)
def test_only_pages_of_the_server_change_something(client: Client, headers: dict[str, str]) -> None:
    assert (
        client.post("/label/save", {}, **{k.replace("_", "-"): v for k, v in headers.items()}).status == 403
    )


def test_a_long_body_is_not_read(client: Client) -> None:
    assert client.post("/label/save", {"x": "y" * 70_000}).status == 413


def test_an_address_does_not_lead_elsewhere(server: Server) -> None:
    reply = Client(server.port).get(f"//evil.example/?token={server.token}")
    assert not reply.headers.get("location", "/").startswith("//")


def test_a_port_that_is_taken(server: Server) -> None:
    with pytest.raises(UserError, match=f"port {server.port} cannot be used"):
        open_server(server.get, server.post, server.port)


def test_two_viewers_at_once_have_ports_and_cookies_of_their_own(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(web, "PORT", taken.getsockname()[1])
        with open_server(server.get, server.post) as first, open_server(server.get, server.post) as second:
            assert len({taken.getsockname()[1], first.port, second.port}) == 3
    with Server(lambda path, query: Answer(b"other"), server.post, 0) as other:
        assert other.port != server.port
        assert other.cookie != server.cookie
        assert other.token != server.token
