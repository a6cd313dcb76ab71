"""Templates have named slots and nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.templates import slots_of


def test_the_names_of_slots() -> None:
    assert slots_of("a {b} {{plain}} {c_1} {b}") == {"b", "c_1"}


@pytest.mark.parametrize(
    "text",
    [
        "{a:>9999999999}",
        "{a!r}",
        "{a.b}",
        "{a[0]}",
        "{}",
        "{0}",
        "{a:{b}}",
        "{",
        "}",
        "{a",
        "{ a }",
        "{a:}x{!s}",
    ],
)
def test_anything_more_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        slots_of(text)


@given(st.text(alphabet="{}ab:!.[]0> "))
def test_what_is_taken_can_be_filled(text: str) -> None:
    """A template that is taken makes a text no longer than itself with its slots filled."""
    try:
        names = slots_of(text)
    except ValueError:
        return
    assert len(text.format(**dict.fromkeys(names, "x"))) <= len(text)
