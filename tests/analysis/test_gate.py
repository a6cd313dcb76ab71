"""Tests of `unharm.analysis.gate`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.findings_helpers import cells_of
from unharm.analysis.gate import gate


def gated(shift: float, allowed: dict[str, float], profiles: int = 12) -> dict[str, Any]:
    draw = np.random.default_rng(2)
    before = draw.integers(1, 4, (profiles, 40)).astype(float)
    after = before + shift + draw.normal(0, 0.3, before.shape)
    runs = []
    for values in (before, after):
        arms = {"vim": {f"x{n}": row.tolist() for n, row in enumerate(values)}}
        runs.append(cells_of(arms, ["a"] * 20 + ["b"] * 20))
    rows = gate(runs[0], runs[1], [("vim", "input-only")], allowed, 0.95)
    return {r["category"]: r for r in rows}


def test_the_gate_tells_a_rise_beyond_what_is_allowed() -> None:
    assert gated(0.5, {})["all"]["verdict"] == "risen"
    assert gated(0.5, {"": 0.2})["all"]["verdict"] == "within"  # 0.2 of a range of 4
    assert gated(0.5, {"": 0.2, "harmfulness": 0.05})["all"]["verdict"] == "risen"
    assert gated(0.0, {"": 0.05})["a"]["verdict"] == "within"
    assert gated(0.0, {})["all"]["verdict"] in ("not excluded", "within")
    assert gated(-0.5, {})["b"]["verdict"] == "within"
    assert gated(0.5, {})["all"]["value"] == pytest.approx(0.5, abs=0.05)


def test_nothing_to_compare_is_no_verdict() -> None:
    cells = cells_of({"vim": {"x": [float("nan")] * 4}}, ["a"] * 4)
    rows = gate(cells, cells, [("vim", "input-only")], {}, 0.95)
    assert {r["verdict"] for r in rows} == {"no number"}
    same = cells_of({"vim": {"x": [2.0] * 4}}, ["a"] * 4)
    assert {r["verdict"] for r in gate(same, same, [("vim", "input-only")], {}, 0.95)} == {"within"}
