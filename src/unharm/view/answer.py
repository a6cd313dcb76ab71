"""What the server sends for a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

Query = dict[str, list[str]]
"""The fields of an address, as `urllib.parse.parse_qs` gives them."""


@dataclass(frozen=True)
class Answer:
    """The body of an answer with its status, type and further headers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


def redirect(place: str) -> Answer:
    """Lead to another address of this server."""
    return Answer(b"", HTTPStatus.SEE_OTHER, "text/plain", {"Location": place})
