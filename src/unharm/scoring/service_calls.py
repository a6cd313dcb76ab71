"""Requests to services: patience, and what each failure means. What a server writes is never repeated: it
may quote the text or the key."""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import openai
import stamina
import stamina.instrumentation

from unharm.core.connection import Connection, api_key, error_code
from unharm.core.errors import UserError
from unharm.core.redirects import guarded_client, leads_away, redirected
from unharm.scoring.service_scorer import Unanswered

stamina.instrumentation.set_on_retry_hooks([])  # its log would quote what a server says

FIRST, LONGEST = 0.5, 60.0
"""Seconds before the second try, and the most before any; doubled each time, with jitter."""
AGAIN = (408, 409, 429, 500, 502, 503, 504)

T = TypeVar("T")


class Unreadable(Exception):
    """An answer of a server that is none: broken JSON, or without what it should have."""


def patiently(send: Callable[[], T], attempts: int) -> T:
    """What `send` gives, tried again after what may pass: no connection, 429 with its Retry-After, 5xx, an
    answer that is none. Raises what the last try raises."""

    def pause(error: Exception) -> bool | float:
        if isinstance(error, openai.APIStatusError):
            if error.status_code not in AGAIN or error_code(error) == "insufficient_quota":
                return False
            asked = retry_after(error.response.headers)
            return True if asked is None else asked
        return isinstance(error, (openai.APIConnectionError, Unreadable))

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
    """Seconds that a server asks to wait, by number or date; None where it asks for nothing."""
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
    """A client that does not try again by itself: every request is counted."""
    return openai.OpenAI(
        base_url=server.url,
        api_key=api_key(server, where),
        max_retries=0,
        timeout=server.timeout,
        http_client=guarded_client(server.timeout),
    )


@contextmanager
def told(server: Connection, where: str, what: str) -> Iterator[None]:
    """Turns what a request raises into `Unanswered`, or `UserError` where none can succeed; `what` names
    the thing that may not be there."""
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise wrong_key(server, where) from None
    except openai.NotFoundError:
        raise UserError(f"the service does not know {what}", where, "check the name and the URL") from None
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
    what = f"the service does not accept the key in {server.key}" if server.key else "it wants a key"
    return UserError(what, where, "name the environment variable that has it in 'key'")


@contextmanager
def tried_out(server: Connection, where: str) -> Iterator[None]:
    """Around a harmless first request: whatever is wrong becomes one `UserError`."""
    try:
        with told(server, where, "what is asked for"):
            yield
    except Unanswered as error:
        raise UserError(
            f"no use can be made of this service ({error.reason.removeprefix('service: ')})",
            f"{where}, {server.url}",
            "start it, or check the URL and the model",
        ) from None


def parsed(send: Callable[[], Any]) -> Any:
    """What `send` gives; what is wrong with its form becomes `Unreadable`."""
    try:
        return send()
    except (openai.APIResponseValidationError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise Unreadable(type(error).__name__) from None
