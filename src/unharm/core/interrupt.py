"""Handling of signals: the first one finishes the current work and stops, the second one stops at once.

Ctrl-C (SIGINT), SIGTERM (Slurm, Kubernetes, `kill`) and SIGHUP (a terminal that closes) are alike, but that
nobody may be there to press Ctrl-C again: after the latter two a run has `DEADLINE` seconds to stop.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unharm.core.progress import say

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
DEADLINE = 20.0
"""Seconds after SIGTERM or SIGHUP until the work is given up: Slurm and Kubernetes kill after 30."""
GRACE = 5.0
"""Seconds after the deadline until the process ends whatever it is doing. What is stored stays whole."""

_stop_requested = threading.Event()
_received = 0


class Stopped(KeyboardInterrupt):
    """Raised when the run has stopped because the user asked it to."""


def stop_requested() -> bool:
    """Return whether this process should stop as soon as its current work is stored."""
    return _stop_requested.is_set()


def request_stop() -> None:
    """Ask this process to stop as soon as its current work is stored."""
    _stop_requested.set()


def exit_code() -> int:
    """Return the exit code after the last signal: 128 and its number, 130 for Ctrl-C."""
    return 128 + (_received or int(signal.SIGINT))


@contextmanager
def on_interrupt() -> Iterator[None]:
    """Request a stop on the first signal and raise `KeyboardInterrupt` on the second, or at the deadline.

    Does nothing outside the main thread, or inside another `on_interrupt`. SIGHUP stays ignored where it is
    (`nohup`).
    """
    global _received
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread() or _is_ours(previous[signal.SIGINT]):
        yield  # an outer run handles signals already
        return
    _stop_requested.clear()
    _received = 0
    timers: list[threading.Timer] = []

    def handle(number: int, frame: Any) -> None:
        global _received
        if _stop_requested.is_set():
            raise KeyboardInterrupt
        _stop_requested.set()
        _received = number
        if number != signal.SIGINT:
            timers.extend(_deadline(exit_code()))
        say("\nstopping after the current work is stored; press Ctrl-C again to stop at once")

    handle.of_unharm = True  # type: ignore[attr-defined]
    for number, before in previous.items():
        if before is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, handle)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; run the same command again to continue")
        raise
    finally:
        for timer in timers:
            timer.cancel()
        for number, before in previous.items():
            signal.signal(number, before)
        _stop_requested.clear()


def _is_ours(handler: object) -> bool:
    return hasattr(handler, "of_unharm")


def _deadline(code: int) -> list[threading.Timer]:
    """Start the timers that interrupt the main thread at the deadline, and end the process after it."""
    timers = [
        threading.Timer(DEADLINE, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)),
        threading.Timer(DEADLINE + GRACE, os._exit, (code,)),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    return timers
