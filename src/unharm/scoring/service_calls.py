"""Send requests to services, repeat them where it helps, and say what each failure means.

No message repeats what a server writes: it may quote the text or the key.
"""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import openai
import stamina
import stamina.instrumentation

from unharm.core.connection import CONNECT, Connection, api_key, error_code
from unharm.core.errors import UserError
from unharm.core.redirects import guarded_client, leads_away, redirected
from unharm.scoring.service_scorer import Unanswered

stamina.instrumentation.set_on_retry_hooks([])  # its log would quote what a server says

FIRST, LONGEST = 0.5, 60.0
"""Seconds before the second try, and the longest wait. The wait doubles each time, with jitter."""
TRIAL_LOSSES = 2
"""Connections that may fail before a service that is tried out counts as unreachable."""
AGAIN = (408, 409, 429, 500, 502, 503, 504)

T = TypeVar("T")


class Unreadable(Exception):
    """The answer of a server is broken JSON, or lacks a field."""


def patiently(send: Callable[[], T], attempts: int, losses: int | None = None) -> T:
    """Call `send` and return its result. Repeat it after failures that may pass.

    These are: no connection, 429 (with its Retry-After), 5xx, and an unreadable answer.

    Args:
        send: Sends one request.
        attempts: Number of tries.
        losses: Number of these that may end without a connection or an answer; all of them if None. A
            service that is tried out before the work fails within seconds, not after minutes.

    Raises:
        Exception: Whatever the last try raises.
    """

    left = [attempts if losses is None else losses]

    def pause(error: Exception) -> bool | float:
        if isinstance(error, openai.APIStatusError):
            if error.status_code not in AGAIN or error_code(error) == "insufficient_quota":
                return False
            asked = retry_after(error.response.headers)
            return True if asked is None else asked
        if isinstance(error, openai.APITimeoutError) and losses is not None:
            return False  # it was waited for already
        if isinstance(error, openai.APIConnectionError):
            left[0] -= 1
            return left[0] > 0
        return isinstance(error, Unreadable)

    for attempt in stamina.retry_context(
        on=pause,
        attempts=attempts,
        timeout=None,
        wait_initial=FIRST,
        wait_max=LONGEST,
        wait_jitter=FIRST,
    ):
        with attempt:
            return send()
    raise AssertionError("unreachable")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, by number or date. None if it does not ask."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            then = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (then - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(max(seconds, 0.0), 600.0)


def client_of(server: Connection, where: str) -> openai.OpenAI:
    """Return a client that does not repeat requests by itself, so that every request is counted."""
    return openai.OpenAI(
        base_url=server.url,
        api_key=api_key(server, where),
        max_retries=0,
        timeout=openai.Timeout(server.timeout, connect=min(CONNECT, server.timeout)),
        http_client=guarded_client(server.timeout),
    )


@contextmanager
def request_errors(server: Connection, where: str, requested: str) -> Iterator[None]:
    """Turn the errors of a request into those of a scorer.

    Args:
        server: The server.
        where: The field of the spec that describes it.
        requested: What a 404 says is missing, for example the model.

    Raises:
        UserError: No request can succeed.
        Unanswered: This request failed.
    """
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise wrong_key(server, where) from None
    except openai.NotFoundError:
        problem = f"the service does not know {requested}"
        raise UserError(problem, where, "check the name and the URL") from None
    except openai.APIStatusError as error:
        if leads_away(error.status_code):
            raise redirected(where) from None
        if error_code(error) == "insufficient_quota":
            raise UserError(
                "the quota of this key is used up", where, "the same command goes on later"
            ) from None
        raise Unanswered(f"service: HTTP {error.status_code} {error_code(error)}".strip()) from None
    except openai.APITimeoutError:
        raise Unanswered(f"service: no answer within {server.timeout:g} s", silent=True) from None
    except openai.APIConnectionError:
        raise Unanswered("service: the connection broke", silent=True) from None
    except Unreadable:
        raise Unanswered("service: an answer that cannot be read") from None


def wrong_key(server: Connection, where: str) -> UserError:
    """Return the error of a key that is missing or not accepted."""
    problem = f"the service does not accept the key in {server.key}" if server.key else "it wants a key"
    return UserError(problem, where, "name the environment variable that has it in 'key'")


@contextmanager
def trial_errors(server: Connection, where: str) -> Iterator[None]:
    """Turn every error of a harmless first request into one `UserError`."""
    try:
        with request_errors(server, where, "this address or model"):
            yield
    except Unanswered as error:
        raise UserError(
            f"no use can be made of this service ({error.reason.removeprefix('service: ')})",
            f"{where}, {server.url}",
            "start it, or check the URL and the model",
        ) from None


def snapshot_of(response: Any) -> str:
    """Return the model that a service says has answered: the snapshot behind an alias."""
    model, build = getattr(response, "model", None), getattr(response, "system_fingerprint", None)
    return " ".join(part for part in (model, build) if isinstance(part, str) and part)[:200]


def parsed(send: Callable[[], Any]) -> Any:
    """Call `send` and return its result. Raise `Unreadable` if the answer has another form."""
    try:
        return send()
    except (openai.APIResponseValidationError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise Unreadable(type(error).__name__) from None
