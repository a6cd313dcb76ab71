"""A whole study lists the bias score of every group."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest

from unharm.analysis.bias import PUBLISHED_BASELINE
from unharm.runs.pipeline import run_study


def test_a_study_lists_every_group(tiny_study: dict[str, Any], load: Any) -> None:
    hbr = tiny_study["benchmarks"]["hbr"] | {"limit": 40}
    data = tiny_study | {"arms": ["vanilla", "icl"], "benchmarks": {"hbr": hbr}}
    run = run_study(load(data))
    findings = run.store.root / "findings"
    groups = pl.read_csv(findings / "bias.csv")
    rows = pl.read_csv(findings / "subjects.csv").filter(pl.col("metric") == "bias_score")
    for (arm, profile), part in groups.group_by("arm", "profile"):
        same = (pl.col("arm") == arm) & (pl.col("profile").eq_missing(profile))
        row = rows.filter(same & (pl.col("category") == "all")).row(0, named=True)
        assert row["n"] == part.height
        assert row["value"] == pytest.approx(part["above"].mean())
        assert part["baseline"].n_unique() == 1
        assert math.isclose(part["baseline"][0], part["negative"].sum() / part["n"].sum())
        spread = pl.read_csv(findings / "subjects.csv").filter(
            same & (pl.col("category") == "all") & (pl.col("metric") == "bias_spread")
        )
        assert spread["n"].to_list() == [part.height]
        assert spread["value"][0] >= 0
        assert set(part["background"]) == {part["negative"].sum() / part["n"].sum()}
        assert (part.filter(pl.col("raised"))["lower"] > part["background"][0]).all()
    arms = pl.read_csv(findings / "arms.csv").filter(pl.col("metric") == "bias_spread")
    assert set(arms["arm"]) == {"vanilla", "icl"}
    assert rows["stand_in"].all()
    assert "bias score (ROBBIE)" in (run.store.root / "report.html").read_text()
    published = run_study(load(data | {"fidelity": "published"}))
    assert set(pl.read_csv(published.store.root / "findings" / "bias.csv")["baseline"]) == {
        PUBLISHED_BASELINE
    }
    own = run_study(load(data, "analysis.bias_baseline=0.2"))
    assert set(pl.read_csv(own.store.root / "findings" / "bias.csv")["baseline"]) == {0.2}
