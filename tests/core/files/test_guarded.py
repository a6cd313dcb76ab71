"""Cells that a spreadsheet would run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.files.delimited import guarded, unguarded


@pytest.mark.parametrize("cell", ["=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "+1-2", "-x", "\t=1", "\rx"])
def test_a_formula_is_guarded(cell: str) -> None:
    assert guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-0.5", "+3", "1e-5", "-", "+", "power", "", "a=b", "'a", "'"])
def test_numbers_signs_and_words_stay(cell: str) -> None:
    assert guarded(cell) == cell


@given(st.text(alphabet="=+-@\t\r'1a"))
def test_what_is_read_back_is_what_was_written(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(("=", "@")) or len(cell) == 1
