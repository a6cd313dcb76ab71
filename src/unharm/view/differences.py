"""Which words of a text another text does not have: for two answers side by side."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

PART = re.compile(r"^\s+|\S+\s*")
"""A word with the spaces after it."""
LONGEST = 4000
"""Words of two texts together from which on they are not compared: the time grows with their product."""


def marked(text: str, reference: str | None) -> list[tuple[str, bool]]:
    """Cut a text into parts, each with whether the reference lacks it.

    `marked("a red hat", "a hat")` is `[("a ", False), ("red ", True), ("hat", False)]`.

    Args:
        text: The text.
        reference: What it is compared with; None for no comparison.
    """
    if reference is None or text == reference:
        return [(text, False)]
    mine, other = PART.findall(text), PART.findall(reference)
    if len(mine) + len(other) > LONGEST:
        return [(text, False)]
    parts: list[tuple[str, bool]] = []
    matcher = SequenceMatcher(a=[p.rstrip() for p in mine], b=[p.rstrip() for p in other], autojunk=False)
    for kind, start, end, _, _ in matcher.get_opcodes():
        if start < end:
            parts.append(("".join(mine[start:end]), kind != "equal"))
    return parts
