"""Harmless questions: what a guard against harm costs is how often it makes a model refuse these.

Format: one question per line; or those that come with unharm.
"""

from __future__ import annotations

from pathlib import Path

from unharm.records import Prompt
from unharm.spec_text import read_text


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """The questions, numbered by their lines; empty lines are left out."""
    lines = read_text(path, "harmless questions").splitlines()
    return [Prompt(f"harmless-{n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()], []
