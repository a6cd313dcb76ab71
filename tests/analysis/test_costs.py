"""Tests of `unharm.analysis.costs`."""

from __future__ import annotations

import math

import polars as pl
import pytest

from unharm.analysis.costs import INCOHERENT, PERPLEXITY, REFUSALS, costs_table, neutral_texts
from unharm.analysis.schemas import ARMS_SCHEMA
from unharm.core.records import Profile, Prompt, Subject

PROMPTS = [Prompt("1", "The door", options=("is open now",)), Prompt("2", "A cat", options=("sleeps",))]
ARMS = pl.DataFrame(schema=ARMS_SCHEMA)


def reading(chances: tuple[float, float], flags: tuple[str, ...] = ("", "")):  # type: ignore[no-untyped-def]
    frame = pl.DataFrame({"prompt_id": ["1", "2"], "options": [[chances[0]], [chances[1]]]})
    return neutral_texts(frame, pl.DataFrame({"flag": list(flags)}), PROMPTS)


def test_perplexity_per_word_is_a_multiple_of_vanillas() -> None:
    """Golden case: e⁻³ for three words and e⁻¹ for one are e per word; an arm at e⁻⁶ and e⁻² has e²."""
    plain, arm = Subject("vanilla", None, "input-only"), Subject("benign:grammar", None, "input-only")
    made = {plain: reading((math.exp(-3), math.exp(-1))), arm: reading((math.exp(-6), math.exp(-2)))}
    rows = {(r["arm"], r["cost"]): r for r in costs_table(made, ARMS, 0.95).to_dicts()}
    assert rows["vanilla", PERPLEXITY]["value"] == pytest.approx(1.0)
    assert rows["benign:grammar", PERPLEXITY]["value"] == pytest.approx(math.e)
    assert rows["benign:grammar", PERPLEXITY]["value_vanilla"] == pytest.approx(math.e)
    assert rows["benign:grammar", PERPLEXITY]["unit"] == "text"


def test_what_has_no_probability_is_counted_and_not_zero() -> None:
    plain = Subject("vanilla", None, "input-only")
    profile = Profile("power", (1.0,) * 10)
    arm = Subject("vim", profile, "input-only")
    made = {plain: reading((0.5, 0.5)), arm: reading((0.0, 0.5), ("repetitive", ""))}
    rows = {(r["arm"], r["cost"]): r for r in costs_table(made, ARMS, 0.95).to_dicts()}
    assert rows["vim", PERPLEXITY]["unscored"] == 1
    assert rows["vim", PERPLEXITY]["value"] == pytest.approx(1.0)
    assert rows["vim", INCOHERENT]["value"] == pytest.approx(0.5)
    assert costs_table({arm: made[arm]}, ARMS, 0.95).is_empty()  # nothing to compare with


def test_refusals_of_harmless_questions_stand_beside_vanillas() -> None:
    row = dict.fromkeys(ARMS_SCHEMA) | {
        "strategy": "input-only", "benchmark": "harmless", "category": "all", "metric": "refusal_rate",
        "unit": "prompt",
    }  # fmt: skip
    arms = pl.DataFrame(
        [row | {"arm": "vanilla", "value": 0.1, "n": 9}, row | {"arm": "vim", "value": 0.4, "n": 9}],
        schema=ARMS_SCHEMA,
    )
    rows = {r["arm"]: r for r in costs_table({}, arms, 0.95).to_dicts()}
    assert rows["vim"]["cost"] == REFUSALS
    assert (rows["vim"]["value"], rows["vim"]["value_vanilla"]) == (0.4, 0.1)
