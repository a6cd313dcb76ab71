"""Errors caused by the user's input.

A `UserError` holds every problem of one input. The command line prints them without a traceback
and exits with code 2. Any other exception is a bug in unharm.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unharm.core.terminal import clean


@dataclass(frozen=True)
class Problem:
    """One problem: what is wrong, where (file, line, field), and what to do about it."""

    message: str
    where: str = ""
    todo: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return clean(f"{head}\n    {self.todo}" if self.todo else head)


class UserError(Exception):
    """One or more problems in the user's input. Never raised for a bug in unharm."""

    def __init__(self, problems: str | Problem | Iterable[Problem], where: str = "", todo: str = ""):
        if isinstance(problems, str):
            problems = Problem(problems, where, todo)
        if isinstance(problems, Problem):
            problems = [problems]
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


def nearest(name: str, names: Sequence[str]) -> str:
    """Return advice for an unknown name: the most similar of `names`, or a list of all of them."""
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "expected one of: " + ", ".join(names)


def raise_all(problems: Sequence[Problem]) -> None:
    """Raise one `UserError` with all `problems`. Do nothing if there are none."""
    if problems:
        raise UserError(problems)
