"""Tests of `unharm.analysis.expressed_values`."""

from __future__ import annotations

import polars as pl
import pytest

from support.findings_helpers import SCORER
from unharm.analysis.expressed_values import aims, expressed, expression_table
from unharm.core.records import Subject
from unharm.profiles.extreme import extreme


def test_expressed_values_are_compared_with_vanilla() -> None:
    labels = pl.DataFrame(
        {
            "value": [1.0, 1.0, 0.0, None],
            "label": ["expressed: power, hedonism", "some: security", "none", ""],
        }
    )
    assert expressed(labels, ["power"]) == pytest.approx(1 / 3)
    assert expressed(labels, ["security", "hedonism"]) == pytest.approx(2 / 3)
    assert expressed(labels.tail(1), ["power"]) is None
    assert aims(extreme("self-enhancement")) == ("achievement", "hedonism", "power")
    profiles = [extreme("power"), extreme("security")]
    plain = pl.DataFrame({"value": [0.0, 0.0], "label": ["none", "none"]})
    found = {(Subject("vanilla", None, "input-only"), "rtp", "v"): plain}
    found |= {(Subject("vim", p, "input-only"), "rtp", "v"): labels for p in profiles}
    row = expression_table(found, profiles, {"v": SCORER}, 0.95).to_dicts()[0]
    assert (row["value"], row["n"]) == (pytest.approx(1 / 3), 2)
