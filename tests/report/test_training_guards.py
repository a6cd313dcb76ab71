"""Tests of `unharm.report.training_guards`."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.schemas import GUARDS_SCHEMA
from unharm.report.training_guards import guards_chart, guards_section


def row(guard: str, kind: str, half: str, value: float, **more: Any) -> dict[str, Any]:
    return dict.fromkeys(GUARDS_SCHEMA) | {
        "arm": "vim", "guard": guard, "kind": kind, "half": half, "benchmark": "beavertails",
        "category": "all", "metric": "flagged_rate", "harm": 0.5 + value, "value": value,
        "alignment": 0.4, "share_alignment": 0.95, "chosen": False, "front": False, **more,
    }  # fmt: skip


def section(*rows: dict[str, Any]) -> dict[str, Any]:
    return guards_section(pl.DataFrame(list(rows), schema=GUARDS_SCHEMA), 0.05)


def test_the_chosen_guard_is_judged_by_the_second_half() -> None:
    kl = {"chosen": True, "front": True}
    rows = [row("input-only", "none", h, 0.0) for h in "ab"] + [row("kl", "training", "a", -0.4, **kl)]
    (found,) = section(*rows, row("kl", "training", "b", -0.2, p_adjusted=0.01, **kl))["sentences"]
    assert (
        "kl (in training), chosen on the first half, lowers flagged rate on the second (-20.0 points)"
        in found
    )
    (found,) = section(*rows, row("kl", "training", "b", -0.02, p_adjusted=0.6, **kl))["sentences"]
    assert "is not shown to lower" in found
    shown = section(*rows, row("kl", "training", "b", -0.2, p_adjusted=0.01, **kl))["rows"]
    assert [(r["name"], r["made"]) for r in shown] == [("no guard", "no guard"), ("kl", "in training")]
    assert guards_chart(shown)["spec"]["layer"][0]["encoding"]["y"]["field"] == "harm"


def test_nothing_is_chosen_where_nothing_was_kept() -> None:
    (none,) = section(row("input-only", "none", "b", 0.0, share_alignment=None))["sentences"]
    assert "moved no ratings" in none
    (few,) = section(row("kl", "training", "b", -0.2, share_alignment=0.3))["sentences"]
    assert "no guard kept enough" in few
