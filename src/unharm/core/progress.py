"""Messages and progress of a run: through `logging`, and on a line that moves where somebody watches.

Everything that is said goes to the logger `unharm`. Nobody sees it until a handler is attached: the command
line and the functions of `import unharm` do so with `watched`, which also chooses how progress is shown: a
moving line on a terminal, a line that is replaced in a notebook, a line now and then elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Protocol

from unharm.core.terminal import clean

LOG = logging.getLogger("unharm")

QUIET_SECONDS = 10.0
"""Seconds between two lines of progress where lines stay."""
LIVE_SECONDS = 0.2
"""Seconds between two updates of a line that moves."""
WINDOW = 60.0
"""The time left is estimated from the rate of this many last seconds."""

Shown = Literal["auto", "terminal", "notebook", "lines", "none"]

_listener = threading.local()


class Display(Protocol):
    """Shows one line of progress that is replaced again and again."""

    def update(self, line: str) -> None:
        """Replace the line."""
        ...

    def clear(self) -> None:
        """Take the line away."""
        ...


class TerminalDisplay:
    """The last line of standard error."""

    def __init__(self) -> None:
        self._width = 0

    def update(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(line)

    def clear(self) -> None:
        if self._width:
            with contextlib.suppress(OSError, ValueError):
                print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
        self._width = 0


class NotebookDisplay:
    """An output of the notebook's cell."""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, line: str) -> None:
        from IPython.display import Pretty, display

        if self._handle is None:
            self._handle = display(Pretty(line), display_id=True)
        else:
            self._handle.update(Pretty(line))

    def clear(self) -> None:
        if self._handle is not None:
            self.update("")
        self._handle = None


class _Lines(logging.Handler):
    """Writes messages to standard error as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        if _display is not None:
            _display.clear()
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more: the run goes on
            print(record.getMessage(), file=sys.stderr, flush=True)


_display: Display | None = None


@contextmanager
def watched(shown: Shown = "auto") -> Iterator[None]:
    """Show messages and progress on standard error, or in the notebook, while this is entered.

    Args:
        shown: `none` shows nothing; `lines` a line every few seconds; `terminal` and `notebook` a line that
            is replaced; `auto` what fits where this runs.
    """
    global _display
    if shown == "none" or any(isinstance(h, _Lines) for h in LOG.handlers):
        yield  # nothing to show, or somebody shows it already
        return
    handler, level, before = _Lines(logging.INFO), LOG.level, _display
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    _display = _display_for(shown)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        _display = before


def _display_for(shown: Shown) -> Display | None:
    if shown == "auto":
        shown = "notebook" if _in_notebook() else "terminal" if sys.stderr.isatty() else "lines"
    displays: dict[str, Callable[[], Display]] = {"terminal": TerminalDisplay, "notebook": NotebookDisplay}
    return displays[shown]() if shown in displays else None


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def say(text: str) -> None:
    """Log one line for the user; in a worker, send it to the process that leads the run."""
    text = clean(text)
    send = getattr(_listener, "send", None)
    if send:
        send(text)
    else:
        LOG.info("%s", text)


@contextmanager
def telling_to(send: Callable[[str], None]) -> Iterator[None]:
    """Send what this thread says to `send`."""
    _listener.send = send
    try:
        yield
    finally:
        _listener.send = None


class Tally:
    """What a worker has done since it was last asked: items made, items skipped, its lines."""

    def __init__(self) -> None:
        self.made = self.skipped = 0
        self.note = ""
        self.said: list[str] = []
        self._guard = threading.Lock()

    def tick(self, items: int) -> None:
        """Count items that were made."""
        with self._guard:
            self.made += items

    def skip(self, items: int) -> None:
        """Count items that were done before."""
        with self._guard:
            self.skipped += items

    def take(self) -> Tally:
        """Return the counters and lines, and reset them."""
        with self._guard:
            taken = Tally()
            taken.made, taken.skipped, taken.note = self.made, self.skipped, self.note
            self.made, self.skipped, self.note = 0, 0, ""
            while self.said:
                taken.said.append(self.said.pop(0))
        return taken

    def __getstate__(self) -> tuple[int, int, str, list[str]]:
        return self.made, self.skipped, self.note, self.said

    def __setstate__(self, state: tuple[int, int, str, list[str]]) -> None:
        self.made, self.skipped, self.note, self.said = state
        self._guard = threading.Lock()


class Progress:
    """Counts the items of one stage and shows rate and time left.

    Args:
        title: The stage.
        total: All items of it.
        unit: What an item is, in the plural.
        finished: How many of the items were done before.
    """

    def __init__(self, title: str, total: int, unit: str, finished: int = 0):
        self.title, self.total, self.unit = title, total, unit
        self.count = finished
        self.finished = finished
        self.note = ""
        self._began = self._shown = time.monotonic()
        self._ended = 0.0
        self._recent: deque[tuple[float, int]] = deque([(self._began, 0)])

    def __enter__(self) -> Progress:
        if self.finished:
            say(f"{self.title}: {self.finished:,} of {self.total:,} {self.unit} are already there")
        return self

    def tick(self, items: int) -> None:
        """Count items that were made."""
        self.count += items
        now = time.monotonic()
        if now - self._shown >= (QUIET_SECONDS if _display is None else LIVE_SECONDS):
            self._shown = now
            line = self._line(now)
            if _display is None:
                say(line)
            else:
                _display.update(clean(line))

    def skip(self, items: int) -> None:
        """Count items that were done before."""
        self.finished += items
        self.count += items

    def add(self, tally: Tally) -> None:
        """Count what a worker has done, and say its lines."""
        self.note = tally.note or self.note
        self.skip(tally.skipped)
        if tally.made:
            self.tick(tally.made)
        for line in tally.said:
            say(line)

    @property
    def ended(self) -> bool:
        return bool(self._ended)

    @property
    def rate(self) -> float:
        """Items a second since this began."""
        until = self._ended or time.monotonic()
        return (self.count - self.finished) / max(until - self._began, 1e-9)

    def seconds_left(self, now: float) -> float | None:
        """The time left at the rate of the last minute, in seconds; None before anything was made.

        The first items of a stage are slow (models load, caches are cold), so the rate since the beginning
        would promise hours for minutes.
        """
        made = self.count - self.finished
        self._recent.append((now, made))
        while len(self._recent) > 2 and now - self._recent[1][0] >= WINDOW:
            self._recent.popleft()
        began, before = self._recent[0]
        if made == before or now <= began:
            return None
        return (self.total - self.count) * (now - began) / (made - before)

    def _line(self, now: float) -> str:
        rate = (self.count - self.finished) / max(now - self._began, 1e-9)
        left = self.seconds_left(now)
        return (
            f"{self.title}: {self.count:,} of {self.total:,} {self.unit}, {_rate(rate)}/s"
            + (f", {duration(left)} left" if left is not None else "")
            + (f" ({self.note})" if self.note else "")
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = time.monotonic()
        seconds, made = self._ended - self._began, self.count - self.finished
        if _display is not None:
            _display.clear()
        if kind is None and made:
            rate = _rate(made / max(seconds, 1e-9))
            say(f"{self.title}: {made:,} {self.unit} in {duration(seconds)} ({rate}/s)")


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `8 s`, `3 min 05 s`, `2 h 10 min`, `5 days 3 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 72 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400:,} days {whole % 86400 // 3600} h"
