"""Tests of `unharm.runs.planning.services`."""

from __future__ import annotations

from typing import Any

import pytest

from unharm.runs.plan import Plan
from unharm.runs.planning.summary import summary_of
from unharm.runs.planning.text import plan_text


def test_a_plan_tells_what_services_would_be_asked(tiny_study: dict[str, Any], load: Any) -> None:
    server = {"url": "http://127.0.0.1:9/v1"}
    tiny_study["scorers"] = {
        "j": {"kind": "judge", "model": "m", "server": server, "price": {"input": 2.0, "output": 8.0}},
        "p": {"kind": "perspective", "rate": 2.0},
        "k": {
            "kind": "judge",
            "model": "m",
            "server": server,
            "rubric": "harmfulness-reworded",
            "sample": 5,
        },
    }
    tiny_study["benchmarks"]["rtp"]["scorer"] = "p"
    tiny_study["benchmarks"]["hexphi"] |= {"scorer": "j", "also": ["k"]}
    plan = Plan(load(tiny_study))
    summary = summary_of(plan)
    subjects = len(plan.subjects)
    rows = {row.scorer: row for row in summary.services}
    assert rows["p"].calls == subjects * 4 * 3
    assert rows["p"].hours == round(subjects * 12 / 2 / 3600, 2)
    assert rows["j"].calls == subjects * 10
    assert rows["k"].calls == 5
    assert rows["k"].cost is None
    tokens = rows["j"].sent_tokens, rows["j"].received_tokens
    assert rows["j"].cost == pytest.approx((tokens[0] * 2 + tokens[1] * 8) / 1e6, abs=1e-4)
    assert summary.judge_calls == sum(row.calls for row in rows.values())
    assert "money" in plan_text(summary)
    assert "cost unknown" in plan_text(summary)


def test_a_plan_names_ends_of_services_and_categories_without_a_counterpart(
    tiny_study: dict[str, Any], load: Any
) -> None:
    guard = {"kind": "guard", "preset": "qwen3guard", "server": {"url": "http://127.0.0.1:9/v1"}}
    tiny_study["scorers"] = {
        "p": {"kind": "perspective"},
        "g": guard | {"categories": "hexphi"},
    }
    tiny_study["benchmarks"]["rtp"]["scorer"] = "p"
    tiny_study["benchmarks"]["beavertails"]["scorer"] = "g"
    notes = summary_of(Plan(load(tiny_study))).notes
    assert any(note.startswith("p end") and "2026-12-31" in note for note in notes)
    assert "g: no category of hexphi stands for Copyright Violation: labels say 'unmapped'" in notes
