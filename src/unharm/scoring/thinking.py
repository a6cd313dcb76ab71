"""What a reasoning model writes before its verdict, kept apart from the verdict."""

from __future__ import annotations

import re
from typing import Any

THINKING = re.compile(
    r"^\s*(?:<think>.*?</think>|<\|channel\|>analysis<\|message\|>.*?<\|channel\|>final<\|message\|>"
    r"|.*?</think>)",
    re.DOTALL,
)
"""Reasoning before the reply proper: in tags (the opening one may be part of the prompt), or as the
analysis channel of gpt-oss."""
OPEN_THINKING = re.compile(r"^\s*(?:<think>|<\|channel\|>analysis)")
"""Reasoning that was cut before its end."""
FIELDS = ("reasoning_content", "reasoning")
"""Fields of a message in which servers give the reasoning by itself."""


def without_thinking(reply: str) -> tuple[str, int]:
    """Return what follows the reasoning of a reply, and where it begins; empty where reasoning was cut.

    A reply that is JSON has no reasoning before it, even where a text in it has its marks.
    """
    if reply.lstrip().startswith("{"):
        return reply, 0
    match = THINKING.match(reply)
    if match:
        return reply[match.end() :], match.end()
    return ("", len(reply)) if OPEN_THINKING.match(reply) else (reply, 0)


def thought_of(message: Any) -> str:
    """Return the reasoning that a server gives in a field of its own; empty where it gives none."""
    given = (getattr(message, name, None) for name in FIELDS)
    return next((text for text in given if isinstance(text, str) and text), "")
