"""What the doctor's checks find: one line each, with what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Level = Literal["ok", "not here", "warning", "fault"]
LEVELS: tuple[Level, ...] = ("ok", "not here", "warning", "fault")
"""From the best to the worst. `not here`: the check does not apply to this machine."""

Figures = dict[str, float | int | str]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: The check.
        level: How it went.
        text: What was found, in one line.
        todo: What to do about it; empty where nothing is to be done.
        figures: What was measured, for programs.
    """

    name: str
    level: Level
    text: str
    todo: str = ""
    figures: Figures = field(default_factory=dict)

    def __str__(self) -> str:
        line = f"{self.level:<9} {self.name:<16} {self.text}"
        return f"{line}\n{'':26} → {self.todo}" if self.todo else line


def worst(findings: list[Finding]) -> Level:
    """Return the worst level of some findings; `ok` for none."""
    return max((f.level for f in findings), key=LEVELS.index, default="ok")
