"""Values that must not be shown or stored: keys of services, found by the variables that hold them.

A server can send a key back in an error, and a model can repeat one. `redact` takes the known values out
of a text; every way out of the process (terminal, run folder, answers of services) goes through it.
"""

from __future__ import annotations

import html
import json
import os
import re
from base64 import b64encode, urlsafe_b64encode
from functools import lru_cache
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
    """The values of all variables that hold keys, in all their spellings, longest first."""
    names = [name for name in os.environ if name in _named or _is_usual(name)]
    values = {os.environ.get(name, "").strip() for name in names}
    spelled = {spelling for value in values if len(value) >= SHORTEST for spelling in _spellings(value)}
    return sorted(spelled, key=lambda value: (-len(value), value))


@lru_cache(maxsize=1024)
def _is_usual(variable: str) -> bool:
    """Return whether a variable has the name of a key. Asked of all variables for every line written."""
    return USUAL.search(variable) is not None


@lru_cache(maxsize=64)
def _spellings(value: str) -> tuple[str, ...]:
    """Return a value as it is, in a URL, in JSON, in HTML, and in base64 of a text that it is part of.

    Base64 packs three bytes into four characters, so it depends on how many bytes (mod 3) come before the
    value. Only those characters are taken that depend on nothing else.
    """
    data = value.encode("utf-8", "surrogateescape")
    spellings = [value, quote(data, safe=""), html.escape(value)]
    spellings += [json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            spellings.append(encode(bytes(before) + data).decode()[first:last])
    return tuple(spellings)


def redact(text: str) -> str:
    """The text without any known value of a key."""
    for value in known_values():
        if value in text:
            text = text.replace(value, MARK)
    return text


def redact_bytes(data: bytes) -> bytes:
    """The bytes of a text without any known value of a key."""
    for value in known_values():
        encoded = value.encode("utf-8", "surrogateescape")
        if encoded in data:
            data = data.replace(encoded, MARK.encode())
    return data
