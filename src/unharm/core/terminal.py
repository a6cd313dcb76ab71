"""The way out to a terminal: no escape sequence, no key, and no traceback when nobody reads any more.

`clean` is applied to everything that is said or printed. `guarded_streams` makes standard output and
standard error take every character, also where the locale is ASCII.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from unharm.core.printable import printable
from unharm.core.secrets import redact


class OutputClosed(Exception):
    """Nobody reads the output any more, or it cannot be written. `reason` is empty for a closed pipe."""

    def __init__(self, reason: str = ""):
        super().__init__(reason)
        self.reason = reason


def clean(text: str) -> str:
    """Return a text without known keys, with everything that a terminal could act on spelled out."""
    return printable(redact(text))


def tell(text: str = "", flush: bool = False) -> None:
    """Print a text to standard output.

    Args:
        text: One line or several.
        flush: Write it at once.

    Raises:
        OutputClosed: The reader has gone, or the disk behind it is full.
    """
    with _closing():
        print(clean(text), flush=flush)


def warn(text: str) -> None:
    """Print a text to standard error. Nothing happens where that is closed."""
    with contextlib.suppress(OSError, ValueError):
        print(clean(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Let both streams take every character, and write what is left at the end.

    A stream that was closed before this process began leads nowhere: otherwise the next file that is opened
    would get its number, and what a library prints.

    Raises:
        OutputClosed: The reader has gone, or the disk behind it is full.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(number))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with _closing():
            sys.stdout.flush()


def _nowhere(number: int) -> TextIO:
    """Return a stream that leads nowhere, with this number where it is free."""
    handle = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(number)
    except OSError:
        os.dup2(handle, number)
        os.close(handle)
        handle = number
    return open(handle, "w", encoding="utf-8", closefd=False)


@contextlib.contextmanager
def _closing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _forget()
        raise OutputClosed from None
    except OSError as error:
        _forget()
        raise OutputClosed(error.strerror or str(error)) from None


def _forget() -> None:
    """Send what is still buffered nowhere: Python writes it once more at its end, and would complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
