"""Settings of a connection to a service, its API key, and the meaning of its errors."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from unharm.core.errors import UserError
from unharm.core.secrets import name_variable
from unharm.core.spec import Amount, Few, Spec

if TYPE_CHECKING:
    import openai


def _variable(name: str) -> str:
    """Check that `name` can be an environment variable."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "give the name of an environment variable such as OPENAI_API_KEY, not the key itself"
        )
    if "_" not in name and len(name) >= 12 and any(c.isdigit() for c in name):  # as AKIA… of AWS
        raise ValueError("give the name of an environment variable; this looks like the key itself")
    name_variable(name)
    return name


def _http(url: str) -> str:
    """Check an HTTP URL and return it without a slash at its end."""
    if not re.match(r"https?://[^\s/]+", url) or not url.isprintable():
        raise ValueError("give a URL such as http://localhost:8000/v1")
    if "?" in url or "#" in url:
        raise ValueError("give the URL without a query: keys come from the variable that `key` names")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("give the URL without a password; name the variable that holds the key in `key`")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_http)]


KeyVariable = Annotated[str, AfterValidator(_variable)]


class Connection(Spec):
    """Address of a service, the environment variable with its key, and limits for requests."""

    url: Url
    key: KeyVariable | None = Field(None, description="the environment variable that holds the key")
    concurrency: Few = Field(16, description="requests in flight at a time")
    attempts: Few = Field(6, description="attempts per request before it counts as failed")
    timeout: Amount = Field(120, description="seconds that one attempt may take")


CONNECT = 5.0
"""Seconds that a connection may take, so that an address without a server is told in seconds."""


def api_key(server: Connection, where: str) -> str:
    """Return the API key of a server, read from its environment variable (`none` if it needs no key).

    Args:
        server: The connection.
        where: The field of the study that describes it, for the error message.

    Raises:
        UserError: The environment variable is not set.
    """
    if not server.key:
        return "none"
    if not os.environ.get(server.key):
        todo = "set it to the key"
        raise UserError(f"the environment variable {server.key} is not set", f"{where}.key", todo)
    return os.environ[server.key]


def error_code(error: openai.APIStatusError) -> str:
    """Return the error code of a server's response, or an empty string if it has none."""
    code = str(getattr(error, "code", None) or "")
    return code if re.fullmatch(r"[\w.-]{1,60}", code, re.ASCII) else ""


def refused_by_filter(error: openai.APIStatusError) -> bool:
    """Return whether a content filter refused the request."""
    return "content_filter" in error_code(error) or "content_filter" in str(error).lower()


BEYOND_CONTEXT = ("context length", "context size", "context_size", "context window", "max_model_len")
"""Words with which servers say that a request is longer than the model reads."""


def exceeds_context(error: openai.APIStatusError) -> bool:
    """Return whether the request was longer than the model's context."""
    said = f"{error_code(error)} {getattr(error, 'type', '')} {error}".lower()
    return "context_length_exceeded" in said or any(words in said for words in BEYOND_CONTEXT)
