"""Progress on standard error: a line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

QUIET_SECONDS = 10.0


def say(text: str) -> None:
    """One line for the user, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Counts the items of one stage; tells rate and time left.

    `start` says how many of the `total` were already there.
    """

    def __init__(self, title: str, total: int, unit: str, there: int = 0):
        self.title, self.total, self.unit = title, total, unit
        self.count = there
        self.there = there
        self._began = self._told = time.monotonic()
        self._live = sys.stderr.isatty()
        self._width = 0
        self.note = ""

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
    """Seconds as people say them: `8 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
