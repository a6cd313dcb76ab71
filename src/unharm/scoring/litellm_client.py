"""Ask providers that have no OpenAI form, such as Anthropic, through the package LiteLLM."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from unharm.core.connection import Connection, api_key
from unharm.core.errors import UserError

Create = Callable[..., Any]
"""Sends one chat request with the body as named arguments, and returns the response."""


def check_litellm(where: str) -> None:
    """Raise `UserError` where LiteLLM is not installed."""
    if find_spec("litellm") is None:
        raise UserError(
            "the package litellm is not installed",
            where,
            "pip install 'unharm[litellm]', or leave 'through' out",
        )


def litellm_create(server: Connection, has_url: bool, where: str) -> Create:
    """Return a function that sends chat requests through LiteLLM.

    Its errors are those of the package openai, and its responses have the OpenAI form.

    Args:
        server: Key and limits of the connection.
        has_url: Whether its URL replaces that of the provider.
        where: The field of the study that describes the scorer.

    Raises:
        UserError: The package is not installed, or the key is missing.
    """
    check_litellm(where)
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True  # it would print requests
    litellm.drop_params = False
    fixed: dict[str, Any] = {"num_retries": 0, "max_retries": 0, "timeout": server.timeout}
    if server.key:
        fixed["api_key"] = api_key(server, where)
    if has_url:
        fixed["api_base"] = server.url

    def create(**body: Any) -> Any:
        return litellm.completion(**body, **fixed)

    return create
