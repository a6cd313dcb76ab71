"""Values that must not be shown or stored: keys of services, found by the variables that hold them.

A server can send a key back in an error, and a model can repeat one. `redact` takes the known values out
of a text; every way out of the process (terminal, run folder, answers of services) goes through it.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

MARK = "[redacted]"
SHORTEST = 8
"""Shorter values are no keys: they would be found in ordinary words."""

USUAL = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_KEY|SECRET|SECRET_KEY|TOKEN|PASSWORD|PASSWD)$", re.IGNORECASE
)
"""Ends of the names of variables that hold keys."""

_named: set[str] = set()


def name_variable(variable: str) -> None:
    """Note an environment variable that holds a key: the study names it."""
    _named.add(variable)


def known_values() -> list[str]:
    """The values of all variables that hold keys, the longest first."""
    values = {
        value.strip()
        for name, value in os.environ.items()
        if (name in _named or USUAL.search(name)) and len(value.strip()) >= SHORTEST
    }
    spelled = values | {quote(value, safe="") for value in values}
    return sorted(spelled, key=lambda value: (-len(value), value))


def redact(text: str) -> str:
    """The text without any known value of a key."""
    for value in known_values():
        if value in text:
            text = text.replace(value, MARK)
    return text


def redact_bytes(data: bytes) -> bytes:
    """The bytes of a text without any known value of a key."""
    for value in known_values():
        encoded = value.encode()
        if encoded in data:
            data = data.replace(encoded, MARK.encode())
    return data
