"""Progress on standard error: a line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

QUIET_SECONDS = 10.0

_listener = threading.local()


def say(text: str) -> None:
    """One line for the user, on standard error; of a worker, to the process that leads the run."""
    listener = getattr(_listener, "told", None)
    if listener:
        listener(text)
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def telling_to(told: Callable[[str], None]) -> Iterator[None]:
    """What this thread says goes to `told`."""
    _listener.told = told
    try:
        yield
    finally:
        _listener.told = None


class Tally:
    """What a worker has done since it was last asked: items made, items that were there, what it said."""

    def __init__(self) -> None:
        self.made = self.skipped = 0
        self.note = ""
        self.said: list[str] = []
        self._guard = threading.Lock()

    def tick(self, items: int) -> None:
        with self._guard:
            self.made += items

    def skip(self, items: int) -> None:
        with self._guard:
            self.skipped += items

    def take(self) -> Tally:
        """What has come together, which this one then has no more."""
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
    """Counts the items of one stage; tells rate and time left. `there` of the `total` were there before."""

    def __init__(self, title: str, total: int, unit: str, there: int = 0):
        self.title, self.total, self.unit = title, total, unit
        self.count = there
        self.there = there
        self._began = self._told = time.monotonic()
        self._live = sys.stderr.isatty()
        self._width = 0
        self.note = ""
        self._ended = 0.0

    def __enter__(self) -> Progress:
        if self.there:
            say(f"{self.title}: {self.there:,} of {self.total:,} {self.unit} are already there")
        return self

    def tick(self, items: int) -> None:
        self.count += items
        now = time.monotonic()
        if now - self._told >= (0.2 if self._live else QUIET_SECONDS):
            self._told = now
            self._show(self._line(now))

    def skip(self, items: int) -> None:
        """So many more were already there."""
        self.there += items
        self.count += items

    def add(self, tally: Tally) -> None:
        """Takes what a worker has done."""
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
        return (self.count - self.there) / max(until - self._began, 1e-9)

    def _line(self, now: float) -> str:
        made, seconds = self.count - self.there, max(now - self._began, 1e-9)
        rate = made / seconds
        left = (self.total - self.count) / rate if rate else 0.0
        return (
            f"{self.title}: {self.count:,} of {self.total:,} {self.unit}, "
            f"{_rate(rate)}/s, {duration(left)} left" + (f" ({self.note})" if self.note else "")
        )

    def _show(self, line: str) -> None:
        if self._live:
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            say(line)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._began
        made = self.count - self.there
        self._ended = time.monotonic()
        if self._live and self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
        if kind is None and made:
            say(
                f"{self.title}: {made:,} {self.unit} in {duration(seconds)}"
                f" ({_rate(made / max(seconds, 1e-9))}/s)"
            )


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
