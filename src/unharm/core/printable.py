"""Text that cannot steer a terminal, and names that are safe to show and to store.

Names, prompts and completions come from files and models. Escape sequences in them can clear a screen,
write to the clipboard or show a text in another order than it has. Everything that is printed goes through
`printable`; names with such characters are refused where they are read.
"""

from __future__ import annotations

import json
import re
import unicodedata

LONGEST = 255
"""Bytes of a name, as in file systems."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, marks that turn the direction of text, and halves of characters."""


def printable(text: str, lines: bool = True) -> str:
    """The text with everything that a terminal could act on spelled as in JSON, such as `\\u001b`.

    Args:
        text: Any text.
        lines: Whether line ends and tabs stay as they are; else they are spelled too.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _harmless(c, lines) else json.dumps(c)[1:-1] for c in text)


def _harmless(character: str, lines: bool) -> bool:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return True
    return lines and character in "\n\t"


def name_problem(name: str) -> str:
    """What is wrong with a name that will be shown and stored; empty where nothing is."""
    if CONTROL.search(name):
        return f"the name {printable(name, lines=False)[:60]!r} has control characters"
    if len(name.encode("utf-8", "replace")) > LONGEST:
        return f"the name {name[:40]!r}… is longer than {LONGEST} bytes"
    return ""


def text_problem(text: str) -> str:
    """What is wrong with a text that will be stored; empty where nothing is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "half a character (a lone surrogate) is in it, which cannot be stored as UTF-8"
    if "\0" in text:
        return "a zero byte is in it, so this is no text"
    return ""
