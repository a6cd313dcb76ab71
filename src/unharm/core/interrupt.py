"""Handling of Ctrl-C: the first one finishes the current work and stops, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unharm.core.progress import say

_stop_requested = threading.Event()


class Stopped(KeyboardInterrupt):
    """Raised when the run has stopped because the user asked it to."""


def stop_requested() -> bool:
    """Return whether this process should stop as soon as its current work is stored."""
    return _stop_requested.is_set()


def request_stop() -> None:
    """Ask this process to stop as soon as its current work is stored."""
    _stop_requested.set()


@contextmanager
def on_interrupt() -> Iterator[None]:
    """Request a stop on the first Ctrl-C and raise `KeyboardInterrupt` on the second.

    Does nothing outside the main thread, or inside another `on_interrupt`.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or hasattr(previous, "of_unharm"):
        yield  # an outer run handles Ctrl-C already
        return
    _stop_requested.clear()

    def handle(number: int, frame: Any) -> None:
        if _stop_requested.is_set():
            raise KeyboardInterrupt
        _stop_requested.set()
        say("\nstopping after the current work is stored; press Ctrl-C again to stop at once")

    handle.of_unharm = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; run the same command again to continue")
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
        _stop_requested.clear()
