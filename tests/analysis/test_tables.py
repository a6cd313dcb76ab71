"""Tests of `unharm.analysis.tables`."""

from __future__ import annotations

import pytest

from support.analysis_helpers import subject_row, table
from unharm.analysis.comparisons import Cells
from unharm.analysis.tables import arms_table


def test_an_arm_with_profiles_has_the_profile_as_its_unit() -> None:
    rows = [subject_row("vim", name, "all", x) for name, x in (("a", 0.2), ("b", 0.4), ("c", None))]
    subjects = table([*rows, subject_row("vanilla", "", "all", 0.3)])
    arms = arms_table(subjects, Cells(), 0.95).to_dicts()
    vim, vanilla = arms
    assert (vim["value"], vim["n"], vim["unit"], vim["unscored"]) == (pytest.approx(0.3), 2, "profile", 3)
    assert (vanilla["value"], vanilla["n"], vanilla["unit"]) == (0.3, 5, "prompt")
