"""Clients of services that follow no redirect to another host.

A prompt, a completion or a key goes to the host that the study names and to no other. A redirect to another
one is kept from being followed; the request then ends as an answer with a status of 3xx.
"""

from __future__ import annotations

from typing import Any

import httpx2

from unharm.core.errors import UserError

REDIRECTS = range(300, 400)


def guarded_client(timeout: float | None = None, **settings: Any) -> httpx2.Client:
    """An HTTP client that follows redirects within a host alone.

    Args:
        timeout: Seconds of one try.
        settings: Further settings of `httpx2.Client`.
    """
    limits = httpx2.Limits(max_connections=10_000, max_keepalive_connections=100)
    return httpx2.Client(
        timeout=timeout,
        limits=limits,
        follow_redirects=True,
        event_hooks={"response": [_stay_on_host]},
        **settings,
    )


def _stay_on_host(response: httpx2.Response) -> None:
    """Take the new address out of an answer that leads to another host, or from TLS to none."""
    if not response.has_redirect_location:
        return
    here = response.request.url
    target = here.join(response.headers["location"])
    if _place(target) != _place(here) and not _to_tls(here, target):
        del response.headers["location"]


def _place(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _to_tls(here: httpx2.URL, target: httpx2.URL) -> bool:
    """Whether a redirect leads to the same host by TLS, both at their usual ports."""
    schemes = (here.scheme, target.scheme) == ("http", "https")
    return schemes and here.host == target.host and here.port is None and target.port is None


def redirected(where: str) -> UserError:
    """Return the error for a service that sends requests on to another host."""
    return UserError(
        "the service sends requests on to another host, and they are not followed there",
        where,
        "give the URL of that host, if you trust it with the prompts and the key",
    )


def leads_away(status: int) -> bool:
    """Whether an answer with this status is a redirect that was not followed."""
    return status in REDIRECTS
