"""Where a service is, how its key is found, and what its errors mean."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from unharm.core.errors import UserError
from unharm.core.spec import Positive, Spec

if TYPE_CHECKING:
    import openai


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "give the name of an environment variable such as OPENAI_API_KEY, not the key itself"
        )
    return name


def _http(url: str) -> str:
    if not re.match(r"https?://[^\s/]+", url):
        raise ValueError("give a URL such as http://localhost:8000/v1")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("give the URL without a password; `key` names the variable that has one")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_http)]


KeyVariable = Annotated[str, AfterValidator(_variable)]


class Connection(Spec):
    """Where a service is, the variable that has its key, and how hard it is asked."""

    url: Url
    key: KeyVariable | None = Field(None, description="the environment variable that has the key")
    concurrency: Positive = Field(16, description="requests on their way at a time")
    attempts: Positive = Field(6, description="tries of a request before it is given up")
    timeout: Annotated[float, Field(gt=0)] = Field(120, description="seconds of one try")


def key_of(server: Connection, where: str) -> str:
    """The key of a server, from its environment variable. Raises `UserError` where that is not set."""
    if not server.key:
        return "none"
    if not os.environ.get(server.key):
        todo = "set it to the key"
        raise UserError(f"the environment variable {server.key} is not set", f"{where}.key", todo)
    return os.environ[server.key]


def code_of(error: openai.APIStatusError) -> str:
    """The code that a server gives with an error; empty without one."""
    return str(getattr(error, "code", None) or "")


def by_filter(error: openai.APIStatusError) -> bool:
    """Whether a content filter refused a request."""
    return "content_filter" in code_of(error) or "content_filter" in str(error).lower()


def beyond_context(error: openai.APIStatusError) -> bool:
    """Whether a request is longer than the model reads."""
    return code_of(error) == "context_length_exceeded" or "context length" in str(error).lower()
