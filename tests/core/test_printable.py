"""Text for terminals, and names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.printable import name_problem, printable, text_problem


def test_escape_sequences_are_spelled() -> None:
    assert printable("a\x1b[2Jb") == "a\\u001b[2Jb"
    assert printable("\x1b]52;c;aGk=\x07") == "\\u001b]52;c;aGk=\\u0007"
    assert printable("safe\u202eexe.txt") == "safe\\u202eexe.txt"
    assert printable("half \ud800") == "half \\ud800"


def test_ordinary_text_stays() -> None:
    assert printable("Größe: 3 · “ja” 漢字\tx\ny") == "Größe: 3 · “ja” 漢字\tx\ny"
    assert printable("a\u00a0b") == "a\u00a0b"


def test_line_ends_are_spelled_where_one_line_is_wanted() -> None:
    assert printable("a\nb\tc\r", lines=False) == "a\\nb\\tc\\r"


@given(st.text())
def test_nothing_is_left_that_a_terminal_acts_on(text: str) -> None:
    shown = printable(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert printable(shown) == shown


@given(st.text())
def test_json_that_is_made_printable_keeps_its_meaning(text: str) -> None:
    assert json.loads(printable(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\u202eb", "a\x7f", "\ud800", "n" * 256, "ä" * 128])
def test_a_name_that_is_refused(name: str) -> None:
    assert name_problem(name)
    assert printable(name_problem(name), lines=False) == name_problem(name)


@pytest.mark.parametrize("name", ["power", "Größe 3", "n" * 255, "=1+1", "漢字", ""])
def test_a_name_that_is_right(name: str) -> None:
    assert name_problem(name) == ""


def test_half_a_character_is_no_text() -> None:
    assert text_problem("a\udc80")
    assert text_problem("a\x1b") == ""
