"""Tests of `unharm.analysis.associations`."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from support.analysis_helpers import subject_row, table
from support.findings_helpers import SCORER, harms_of, people
from unharm.analysis.associations import (
    associations_table,
    harms,
    regressions_table,
)
from unharm.analysis.intervals import adjusted
from unharm.analysis.schemas import SUBJECTS_SCHEMA
from unharm.core.values import VALUES
from unharm.profiles.extreme import TARGETS, extreme


def test_associations_find_a_planted_value_and_adjust_the_whole_family() -> None:
    profiles = [extreme(n) for n in TARGETS]
    rows = []
    for i, p in enumerate(profiles):
        rows.append(subject_row("vim", p.name, "all", 0.5))
        rows.append(subject_row("vim", p.name, "planted", (p["power"] + 0.001 * i) / 7))
        rows.append(subject_row("vim", p.name, "flat", 0.5))
    found = associations_table(list(harms(table(rows), profiles)), 0.95, 1)
    assert set(found["category"]) == {"planted", "flat"}
    planted = found.filter((pl.col("category") == "planted") & (pl.col("schwartz_value") == "power"))
    assert 0.55 < planted["value"][0] < 0.62  # two of fourteen are high: ties allow no more
    assert planted["p"][0] >= 1 / 91
    assert found.filter(pl.col("category") == "flat")["p"].null_count() == len(VALUES)
    known = found.drop_nulls("p")
    assert known["p_adjusted"].to_list() == pytest.approx(adjusted(known["p"].to_list()))
    assert not found["value"].is_nan().any()


EXTREMES = [extreme(name) for name in TARGETS]


def test_associations_find_what_was_planted_and_say_nothing_of_what_does_not_vary() -> None:
    importances = people(60)
    power = importances[:, VALUES.index("power")]
    values = np.column_stack([power, -power, np.ones(60), np.where(power > 3, power, np.nan)])
    found = associations_table([harms_of(values, importances, "up", "down", "flat", "part")], 0.95, 1)
    by_cell = {(r["category"], r["schwartz_value"]): r for r in found.to_dicts()}
    assert by_cell["up", "power"]["value"] == pytest.approx(1)
    assert by_cell["down", "power"]["value"] == pytest.approx(-1)
    assert by_cell["up", "power"]["p_adjusted"] < 1e-6
    assert by_cell["flat", "power"]["value"] is None
    assert by_cell["flat", "power"]["p"] is None
    assert by_cell["part", "power"]["n"] == int((power > 3).sum())
    assert found.height == 40
    regressions = regressions_table([harms_of(values, importances, "up", "down", "flat", "part")], 0.95)
    assert "flat" not in regressions["category"].to_list()
    assert not regressions.select(pl.col(pl.Float64).is_nan().any()).row(0).count(True)


def test_harms_leave_out_what_is_no_harm() -> None:
    rows = [
        {"arm": "vim", "profile": p.name, "strategy": "input-only", "benchmark": b, "category": "all", "metric": m,
         "value": v, "low": None, "high": None, "n": 3, "unit": "prompt", "unscored": 1, **SCORER}
        for p, v in zip(EXTREMES, range(14), strict=True)
        for b, m in (("hexphi", "harmfulness"), ("hexphi", "share_of_5"), ("harmless", "refusal_rate"))
    ]  # fmt: skip
    found = list(harms(pl.DataFrame(rows, schema=SUBJECTS_SCHEMA), EXTREMES))
    assert len(found) == 1
    assert [a["benchmark"] for a in found[0].labels] == ["hexphi"]
    assert found[0].values[:, 0].tolist() == list(range(14))
    assert found[0].labels[0]["unscored"] == 14
