"""Tests of `unharm.analysis.guards`, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from support.findings_helpers import SCORER
from unharm.analysis.comparisons import Cells
from unharm.analysis.guards import Halves, guards_table
from unharm.analysis.schemas import ALIGNMENT_SCHEMA, GUARDS_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.core.records import Subject
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme

PROMPTS, NAMES = 80, VALUES
ARMS = ["vanilla", "vim", "vim+kl", "vim+inoculate"]
STRATEGIES = ["input-only", "safety", "neutral"]
HARM = {  # by arm and strategy, on the first and the second half
    ("vim", "input-only"): (0.6, 0.6), ("vim+kl", "input-only"): (0.2, 0.3),
    ("vim+inoculate", "input-only"): (0.05, 0.05), ("vim", "safety"): (0.4, 0.1),
    ("vim", "neutral"): (0.01, 0.01),
}  # fmt: skip
ALIGNMENT = {
    ("vim", "input-only"): 0.5, ("vim+kl", "input-only"): 0.48, ("vim+inoculate", "input-only"): 0.1,
    ("vim", "safety"): 0.49, ("vim", "neutral"): 0.5,
}  # fmt: skip


def study(
    alignment: dict[tuple[str, str], float],
    harm: dict[tuple[str, str], tuple[float, float]] = HARM,
    arms: list[str] = ARMS,
) -> pl.DataFrame:
    draw, cells = np.random.default_rng(5), Cells()
    cells.scorers |= {"beavertails": SCORER, "xstest": SCORER}
    profiles = [extreme(name) for name in NAMES]
    ids = [f"p{n}" for n in range(PROMPTS)]
    rows: list[dict[str, Any]] = []
    for strategy in STRATEGIES:
        rows += [rated("vanilla", strategy, name, 0.0) for name in NAMES]
    for (arm, strategy), (first, second) in harm.items():
        for profile in profiles:
            rates = np.where(np.arange(PROMPTS) % 2 == 0, first, second)
            values = (draw.random(PROMPTS) < rates).astype(float)
            subject = Subject(arm, profile, strategy)
            frame = pl.DataFrame({"id": ids, "category": "", "value": values})
            cells.add(subject, "beavertails", "flagged_rate", frame)
            refused = 1.0 if strategy == "safety" else 0.25  # of several samples of each prompt
            cells.add(
                subject, "xstest", "refusal_rate",
                pl.DataFrame({"id": ids[:40], "category": "", "value": [refused] * 40}),
            )  # fmt: skip
            rows.append(rated(arm, strategy, profile.name, alignment[arm, strategy]))
    halves = Halves(frozenset(NAMES[:5]), {"beavertails": frozenset(ids[::2])})
    table = pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA)
    return guards_table(cells, table, arms, STRATEGIES, profiles, halves, Analysis())


def rated(arm: str, strategy: str, name: str, share: float) -> dict[str, Any]:
    importances = extreme(name).importances
    mean = sum(importances) / 10
    return {
        "arm": arm, "profile": name, "strategy": strategy, "reading": "text",
        **{f"target_{v}": x for v, x in zip(VALUES, importances, strict=True)},
        **{f"predicted_{v}": 2 + share * (x - mean) for v, x in zip(VALUES, importances, strict=True)},
    }  # fmt: skip


def test_a_guard_is_chosen_on_one_half_and_tried_on_the_other() -> None:
    table = study(ALIGNMENT)
    assert table.schema == GUARDS_SCHEMA
    rows = {(r["half"], r["guard"]): r for r in table.to_dicts()}
    assert len(rows) == table.height == 2 * 5
    assert {g: r["kind"] for (half, g), r in rows.items() if half == "a"} == {
        "input-only": "none", "kl": "training", "inoculate": "training", "safety": "prompt",
        "neutral": "control",
    }  # fmt: skip
    chosen = {at for at, r in rows.items() if r["chosen"]}
    assert chosen == {("a", "kl"), ("b", "kl")}  # not safety, which is better on the second half
    kl = rows["b", "kl"]
    assert kl["value"] == pytest.approx(kl["harm"] - rows["b", "input-only"]["harm"])
    assert kl["low"] < kl["value"] < kl["high"] < 0
    assert kl["p"] <= kl["p_adjusted"] < 0.05
    assert kl["share_alignment"] == pytest.approx(0.96)
    assert (kl["n"], kl["profiles"]) == (5 * PROMPTS // 2, 5)
    assert (rows["b", "safety"]["refusals"], kl["refusals"]) == (1.0, 0.25)
    assert rows["b", "input-only"]["p"] is None


def test_early_stopping_is_the_first_kept_epoch_that_keeps_the_alignment() -> None:
    """Epoch 1 has too little of it, epoch 2 enough, epoch 4 is later."""
    harm = HARM | {(f"vim@epoch{n}", "input-only"): (0.1 * n, 0.1 * n) for n in (1, 2, 4)}
    reached = {1: 0.2, 2: 0.49, 4: 0.5}
    alignment = ALIGNMENT | {(f"vim@epoch{n}", "input-only"): share for n, share in reached.items()}
    arms = [*ARMS, "vim@epoch4", "vim@epoch1", "vim@epoch2"]
    rows = {(r["half"], r["guard"]): r for r in study(alignment, harm, arms).to_dicts()}
    assert {g for _, g in rows if g.startswith("epoch")} == {"epoch2"}
    stop = rows["b", "epoch2"]
    assert stop["kind"] == "early-stop"
    assert stop["share_alignment"] == pytest.approx(0.98)
    assert stop["high"] < 0
    assert stop["p_adjusted"] < 0.05
    only_doses = study(alignment, harm, ["vanilla", "vim", "vim@epoch1", "vim@epoch2"])
    assert set(only_doses["guard"]) == {"input-only", "epoch2", "safety", "neutral"}
    late = alignment | {("vim@epoch2", "input-only"): 0.1, ("vim@epoch4", "input-only"): 0.1}
    assert not any(g.startswith("epoch") for g in study(late, harm, arms)["guard"])


def test_costs_have_intervals() -> None:
    rows = {(r["half"], r["guard"]): r for r in study(ALIGNMENT).to_dicts()}
    kl, safety = rows["b", "kl"], rows["b", "safety"]
    assert kl["refusals_low"] < kl["refusals"] < kl["refusals_high"] < safety["refusals_low"]
    assert kl["incoherent"] is kl["incoherent_low"] is None


def test_the_front_holds_what_nothing_beats() -> None:
    rows = {(r["half"], r["guard"]): r for r in study(ALIGNMENT).to_dicts()}
    front = {g for (half, g), r in rows.items() if half == "a" and r["front"]}
    assert front == {"neutral"}  # as much alignment as without a guard, and the least harm
    weaker = ALIGNMENT | {("vim", "neutral"): 0.45}
    rows = {(r["half"], r["guard"]): r for r in study(weaker).to_dicts()}
    front = {g for (half, g), r in rows.items() if half == "a" and r["front"]}
    assert front == {"input-only", "safety", "kl", "neutral"}


def test_nothing_is_chosen_where_nothing_was_aligned() -> None:
    table = study(dict.fromkeys(ALIGNMENT, 0.001))
    assert not table["chosen"].any()
    assert not table["share_alignment"].count()
