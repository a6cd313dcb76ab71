"""Words that a text has and its reference has not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unharm.view.differences import LONGEST, marked

TEXTS = st.lists(st.sampled_from(["a", "red", "hat", " ", "\n", "is"]), max_size=12).map("".join)


def test_new_words_are_marked() -> None:
    assert marked("a red hat", "a hat") == [("a ", False), ("red ", True), ("hat", False)]
    assert marked("a hat", None) == [("a hat", False)]
    assert marked("a hat", "a hat") == [("a hat", False)]
    assert marked("x " * LONGEST, "y") == [("x " * LONGEST, False)]


@given(TEXTS, TEXTS)
def test_the_parts_are_the_text(text: str, reference: str) -> None:
    parts = marked(text, reference)
    assert "".join(part for part, _ in parts) == text
