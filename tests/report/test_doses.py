"""Tests of `unharm.report.doses`."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.schemas import DOSE_SCHEMA
from unharm.report.doses import dose_chart, doses_section


def row(
    kind: str, level: float, excess: float | None, alignment: float | None, **more: Any
) -> dict[str, Any]:
    return dict.fromkeys(DOSE_SCHEMA) | {
        "arm": "vim", "kind": kind, "level": level, "strategy": "input-only", "benchmark": "beavertails",
        "category": "all", "metric": "flagged_rate", "value": 0.3, "low": 0.2, "high": 0.4, "n": 3,
        "unit": "profile", "excess": excess, "alignment": alignment, "mark": "", **more,
    }  # fmt: skip


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=DOSE_SCHEMA)


def test_the_earliest_epoch_is_told_with_what_harm_it_spares() -> None:
    some = table(
        row("none", 0.0, None, 0.0, arm="vanilla"),
        row("epoch", 2.0, 0.05, 0.47, mark="earliest", share_alignment=0.94),
        row("full", 1.0, 0.25, 0.5, share_alignment=1.0),
    )
    section = doses_section(some, 0.9)
    (sentence,) = section["sentences"]
    assert (
        "epoch 2 is the first kept one with 90.0 % of the alignment of the full dose (94.0 %)" in sentence
    )
    assert "flagged rate +5.0 points against vanilla instead of +25.0" in sentence
    assert [r["dose"] for r in section["rows"]] == ["no alignment", "epoch 2", "full dose"]
    points = dose_chart(section["rows"])["spec"]["layer"][0]
    assert points["encoding"]["x"]["field"] == "alignment"


def test_nothing_is_claimed_where_nothing_was_aligned_or_kept() -> None:
    (none,) = doses_section(table(row("epoch", 1.0, 0.1, -0.1), row("full", 1.0, 0.1, 0.0)), 0.9)[
        "sentences"
    ]
    assert "no alignment was measured" in none
    few = table(row("epoch", 1.0, 0.1, 0.1, share_alignment=0.2), row("full", 1.0, 0.1, 0.5))
    assert "no kept epoch has 90.0 %" in doses_section(few, 0.9)["sentences"][0]
    assert not doses_section(table(row("scale", 0.5, 0.1, 0.1)), 0.9)["sentences"]
