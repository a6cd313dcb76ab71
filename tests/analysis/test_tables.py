"""Tests of `unharm.analysis.tables`."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from support.analysis_helpers import subject_row, table
from unharm.analysis.comparisons import Cells
from unharm.analysis.metrics import map_variances
from unharm.analysis.tables import arms_table
from unharm.core.records import Profile, Subject


def test_an_arm_with_profiles_has_the_profile_as_its_unit() -> None:
    rows = [subject_row("vim", name, "all", x) for name, x in (("a", 0.2), ("b", 0.4), ("c", None))]
    subjects = table([*rows, subject_row("vanilla", "", "all", 0.3)])
    arms = arms_table(subjects, Cells(), 0.95).to_dicts()
    vim, vanilla = arms
    assert (vim["value"], vim["n"], vim["unit"], vim["unscored"]) == (pytest.approx(0.3), 2, "profile", 3)
    assert (vanilla["value"], vanilla["n"], vanilla["unit"]) == (0.3, 5, "prompt")


def test_the_error_of_a_map_widens_the_interval_over_profiles() -> None:
    """The profiles of an arm share it, so it does not shrink with their number."""
    names = ("a", "b", "c", "d")
    subjects = table([subject_row("vim", name, "all", 0.3) for name in names])
    metric, benchmark = subjects["metric"][0], subjects["benchmark"][0]
    cells = Cells()
    draw = np.random.default_rng(0)
    ids = [f"p{n}" for n in range(40)]
    for name in names:
        subject = Subject("vim", Profile(name, (3.0,) * 10), "input-only")
        values = pl.DataFrame({"id": ids, "category": "", "value": draw.random(40)})
        cells.add(subject, benchmark, metric, values)
    at = ("vim", "input-only", benchmark, "all", metric)
    plain, wide = (
        arms_table(subjects, cells, 0.95, errors).row(0, named=True)
        for errors in (None, {at: [0.01, 0.01]})
    )
    assert plain["value"] == wide["value"]
    for end in ("low", "high"):
        half = abs(plain[end] - plain["value"])
        expected = math.hypot(half, 1.959964 * 0.1)
        assert abs(wide[end] - wide["value"]) == pytest.approx(expected, abs=1e-6)


def test_the_error_of_a_map_is_what_its_imputations_have_in_common() -> None:
    """By hand: 20 maps lie apart with a variance of 0.04; each draw has a variance of 1 besides."""
    draw = np.random.default_rng(1)
    shifts, count = draw.normal(0, 0.2, 20), 4000
    tables = [
        pl.DataFrame(
            {
                "prompt_id": [f"p{n}" for n in range(count)],
                "category": "",
                "m": s + draw.normal(0, 1, count),
            }
        )
        for s in shifts
    ]
    errors = map_variances(tables)
    assert list(errors) == [("all", "m")]
    assert errors["all", "m"] == pytest.approx(1.05 * shifts.var(ddof=1), rel=0.2)
    assert map_variances(tables[:1]) == {}
