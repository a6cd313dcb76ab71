"""Ctrl-C: once, what is begun is finished and kept; twice, the run is left at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unharm.core.progress import say

_asked = threading.Event()


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and has."""


def asked() -> bool:
    """Whether the run is to stop at the next good moment."""
    return _asked.is_set()


def ask() -> None:
    """Asks this process to stop at the next good moment."""
    _asked.set()


@contextmanager
def on_interrupt() -> Iterator[None]:
    """The first Ctrl-C asks to stop, the second raises `KeyboardInterrupt`. In the main thread only."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or hasattr(before, "of_unharm"):
        yield  # inside a run that looks for it already
        return
    _asked.clear()

    def handle(number: int, frame: Any) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()
        say("\nstopping: what is begun is finished and kept; Ctrl-C again leaves at once")

    handle.of_unharm = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()
