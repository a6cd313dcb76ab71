"""Tests of `unharm.analysis.behaviour`."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.analysis.behaviour import (
    BEHAVIOUR,
    SELF_REPORT,
    behaviour_arms_table,
    behaviour_table,
    choice_scores,
    leakage_table,
)
from unharm.core.records import Profile, Prompt, Subject
from unharm.core.values import VALUES

CHANCE = st.floats(1e-12, 1.0)


def scenario(number: int, one: str, two: str, first: str, second: str) -> list[Prompt]:
    ab = {"scenario": str(number), "first": one, "second": two}
    ba = {"scenario": str(number), "first": two, "second": one}
    return [
        Prompt(f"{number}-ab", "", one, ab, (first, second)),
        Prompt(f"{number}-ba", "", one, ba, (second, first)),
    ]


def completions(options: dict[str, list[float]]) -> pl.DataFrame:
    return pl.DataFrame({"prompt_id": list(options), "options": list(options.values())})


def test_scores_are_shares_per_word_over_both_orders() -> None:
    """Golden case: two words of probability 0.04 are 0.2 a word, against 0.2 for one word: a share of 1/2."""
    prompts = scenario(1, "power", "security", "take over", "wait")
    scores, first = choice_scores(completions({"1-ab": [0.04, 0.2], "1-ba": [0.6, 0.04]}), prompts)
    rows = {r["category"]: r["value"] for r in scores.to_dicts()}
    power = (0.5 + 0.2 / (0.2 + 0.6)) / 2
    assert rows["power"] == pytest.approx(1 + 5 * power)
    assert rows["security"] == pytest.approx(1 + 5 * (1 - power))
    assert first == pytest.approx((0.5 + 0.6 / 0.8) / 2)


@given(st.tuples(CHANCE, CHANCE), st.tuples(CHANCE, CHANCE))
def test_the_two_scores_of_a_scenario_sum_to_seven(
    ab: tuple[float, float], ba: tuple[float, float]
) -> None:
    prompts = scenario(1, "power", "security", "a b c", "d")
    scores, _ = choice_scores(completions({"1-ab": list(ab), "1-ba": list(ba)}), prompts)
    assert scores["value"].sum() == pytest.approx(7.0)
    assert all(1 <= x <= 6 for x in scores["value"])


@given(CHANCE)
def test_a_model_that_reads_the_order_alone_prefers_nothing(chance: float) -> None:
    prompts = scenario(1, "power", "security", "a", "b")
    scores, _ = choice_scores(completions({"1-ab": [chance, 0.1], "1-ba": [chance, 0.1]}), prompts)
    assert scores["value"].to_list() == pytest.approx([3.5, 3.5])


def test_a_scenario_without_probabilities_in_one_order_is_unscored() -> None:
    prompts = scenario(1, "power", "security", "a", "b") + scenario(2, "power", "hedonism", "a", "b")
    options = {"1-ab": [0.1, 0.2], "1-ba": [0.0, 0.2], "2-ab": [0.1, 0.2]}
    scores, first = choice_scores(completions(options), prompts)
    assert scores["value"].null_count() == 4
    assert first is not None
    assert choice_scores(completions({}), prompts)[1] is None


def readings(done: dict[str, float], said: dict[str, float]) -> dict[tuple[Subject, str], pl.DataFrame]:
    """Return readings of vanilla (3 everywhere) and of one arm with a profile, as changes from 3."""
    profile = Profile("power", tuple(6.0 if v == "power" else 1.0 for v in VALUES))
    arm, plain = Subject("vim", profile, "input-only"), Subject("vanilla", None, "input-only")

    def frame(change: dict[str, float]) -> pl.DataFrame:
        return pl.DataFrame({"category": list(VALUES), "value": [3 + change.get(v, 0.0) for v in VALUES]})

    return {
        (plain, SELF_REPORT): frame({}), (plain, BEHAVIOUR): frame({}),
        (arm, SELF_REPORT): frame(said), (arm, BEHAVIOUR): frame(done),
    }  # fmt: skip


def test_the_gap_is_what_a_model_says_and_does_not_do() -> None:
    """It says power, and does security: correlations 1 and −1/9 with a profile of power alone."""
    table = behaviour_table(readings({"security": 1.0}, {"power": 2.0}), {})
    row = table.row(0, named=True)
    assert row["self_report"] == pytest.approx(1.0)
    assert row["behaviour"] == pytest.approx(-1 / 9)
    assert row["gap"] == pytest.approx(10 / 9)
    assert row["done_security"] == pytest.approx(1.0)
    arms = {r["reading"]: r for r in behaviour_arms_table(table, 0.95).to_dicts()}
    assert arms["gap"]["value"] == pytest.approx(10 / 9)
    assert (arms["gap"]["n"], arms["gap"]["unit"], arms["gap"]["low"]) == (1, "target", None)


def test_a_subject_that_does_not_change_has_no_correlation() -> None:
    row = behaviour_table(readings({}, {"power": 1.0}), {}).row(0, named=True)
    assert row["behaviour"] is None
    assert row["gap"] is None
    arms = behaviour_arms_table(behaviour_table(readings({}, {"power": 1.0}), {}), 0.95)
    assert arms.filter(pl.col("reading") == BEHAVIOUR)["unscored"].item() == 1


def test_leakage_names_what_moved_beside_the_raised_value() -> None:
    table = behaviour_table(readings({"security": 0.5, "power": 0.25}, {"power": 2.0}), {})
    profile = Profile("power", tuple(6.0 if v == "power" else 1.0 for v in VALUES))
    rows = {
        (r["reading"], r["schwartz_value"]): r["value"]
        for r in leakage_table(table, [profile], 0.95).to_dicts()
    }
    assert {r[0] for r in rows} == {SELF_REPORT, BEHAVIOUR}
    assert rows[BEHAVIOUR, "security"] == pytest.approx(0.5)
    assert rows[BEHAVIOUR, "power"] == pytest.approx(0.25)
    assert math.isclose(rows[SELF_REPORT, "tradition"], 0.0, abs_tol=1e-9)
