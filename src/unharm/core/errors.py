"""Mistakes of the user, and how they are told.

A `UserError` carries every problem of one input; the command line prints them without a
traceback and ends with exit code 2. Anything else that is raised is our own mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake: what is wrong, where (file, line, field), and what to do about it."""

    what: str
    where: str = ""
    todo: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n    {self.todo}" if self.todo else head


class UserError(Exception):
    """One or more mistakes in what the user gave; never raised for a fault of ours."""

    def __init__(self, problems: str | Problem | Iterable[Problem], where: str = "", todo: str = ""):
        if isinstance(problems, str):
            problems = Problem(problems, where, todo)
        if isinstance(problems, Problem):
            problems = [problems]
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


def nearest(name: str, names: Sequence[str]) -> str:
    """The advice for a name that is not among `names`: the nearest right one, or all of them."""
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "expected one of: " + ", ".join(names)


def raise_all(problems: Sequence[Problem]) -> None:
    """Raises one `UserError` with all `problems`; does nothing where there are none."""
    if problems:
        raise UserError(problems)
