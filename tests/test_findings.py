"""Comparisons of arms, values and harms, hypotheses, the gate: against libraries, by hand, by planting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unharm.analysis.associations import (
    Harms,
    associations_table,
    harms,
    hypotheses_table,
    regressions_table,
)
from unharm.analysis.comparisons import Cells, comparisons_table, pairs
from unharm.analysis.correlations import (
    axes,
    bootstrapped,
    detectable,
    inflation,
    on_axes,
    pearson,
    rank_correlations,
    ridge,
)
from unharm.analysis.expressed_values import aims, expressed, expression_table
from unharm.analysis.gate import gate
from unharm.analysis.hypotheses import Hypothesis, load_hypotheses
from unharm.analysis.intervals import holm, spearman
from unharm.analysis.metrics import benchmark_metrics
from unharm.analysis.paired import difference, hall_inverse, hall_transform
from unharm.analysis.schemas import ALIGNMENT_SCHEMA, SUBJECTS_SCHEMA
from unharm.analysis.simulate import (
    PAPER,
    Bench,
    World,
    score_table,
    simulated,
    smaller,
    true_difference,
    without_difference,
)
from unharm.analysis.value_shift import moved_table
from unharm.core.errors import UserError
from unharm.core.records import Profile, Subject
from unharm.core.values import VALUES
from unharm.profiles.extreme import TARGETS, extreme

SCORER = {"scorer": "s", "scorer_version": "1", "stand_in": False}
EXTREMES = [extreme(name) for name in TARGETS]


def people(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 6, (count, 10))


# ---- differences -------------------------------------------------------------------------


def test_one_profile_is_the_paired_t_test() -> None:
    """Without skewness (mirrored numbers) the transformation does nothing."""
    d = np.array([[-3.0, -1.0, 0.5, 1.5, 3.0, 5.0]])
    assert stats.skew(d[0]) == pytest.approx(0)
    found = difference(d, 0.95)
    expected = stats.ttest_1samp(d[0], 0)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.profiles, found.prompts, found.n) == (1, 6, 6)


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 1000))
def test_complete_tables_have_the_error_of_the_analysis_of_variance(
    rows: int, columns: int, seed: int
) -> None:
    """Var(mean) = (MS_rows + MS_columns − MS_rest)/(rows × columns), but for what cells alone add."""
    draw = np.random.default_rng(seed)
    d = (
        draw.normal(size=(rows, 1))
        + draw.normal(size=(1, columns))
        + 0.1 * draw.normal(size=(rows, columns))
    )
    found = difference(d, 0.95)
    mean = d.mean()
    ms_rows = columns * ((d.mean(axis=1) - mean) ** 2).sum() / (rows - 1)
    ms_columns = rows * ((d.mean(axis=0) - mean) ** 2).sum() / (columns - 1)
    n = rows * columns
    cells = ((d - mean) ** 2).sum() / (n - 1)
    variance = (ms_rows + ms_columns - cells) / n
    if variance > max(ms_rows, ms_columns) / n / 2:
        assert found.low is not None
        assert found.high is not None
        assert found.freedom is not None
        t = stats.t.ppf(0.975, found.freedom)
        assert found.high - found.low == pytest.approx(2 * t * math.sqrt(variance), rel=1e-6)


@given(st.floats(-6, 6), st.floats(-1.5, 1.5))
def test_the_transformation_has_its_inverse(t: float, skew: float) -> None:
    assert hall_inverse(hall_transform(t, skew), skew) == pytest.approx(t, abs=1e-6)


def test_missing_cells_are_left_out_and_nothing_is_made_of_nothing() -> None:
    d = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan]])
    found = difference(d, 0.95)
    assert (found.value, found.n, found.profiles, found.prompts) == (2.0, 3, 2, 2)
    assert difference(np.full((2, 3), np.nan), 0.95).value is None
    assert difference(np.zeros((0, 0)), 0.95).value is None
    same = difference(np.ones((3, 4)), 0.95, 1)
    assert (same.value, same.low, same.p, same.low_check) == (1.0, None, None, None)
    one = difference(np.array([[2.0]]), 0.95)
    assert (one.value, one.low) == (2.0, None)


@pytest.mark.parametrize("name", ["hexphi", "beavertails"])
def test_intervals_of_differences_cover_and_agree_with_the_bootstrap(name: str) -> None:
    bench = PAPER[name]
    world = without_difference(bench, World())
    importances = people(40)
    hits, widths = 0, []
    for seed in range(120):
        vanilla, aligned, _ = simulated(importances, name, bench, world, seed)
        d = aligned[:, :, 0] - vanilla[None, :, 0]
        found = difference(d, 0.95, seed if seed < 10 else None)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
        if found.low_check is not None and found.high_check is not None:
            widths.append((found.high_check - found.low_check) / (found.high - found.low))
    assert 0.89 <= hits / 120 <= 0.99
    assert np.mean(widths) == pytest.approx(1, abs=0.12)


def test_a_planted_shift_is_what_is_found() -> None:
    bench = Bench("harmfulness", {"a": 60}, level=0.0)
    world = World(shift=0.5, noise=0.0)
    truth = true_difference(bench, world)
    values = []
    for seed in range(30):
        vanilla, aligned, _ = simulated(people(30), "hexphi", bench, world, seed)
        values.append(float(np.nanmean(aligned) - np.nanmean(vanilla)))
    assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values) / math.sqrt(30))


def cells_of(arms: dict[str, dict[str, list[float]]], categories: list[str]) -> Cells:
    """Cells of HEx-PHI: by arm, the profiles with their harmfulness of each prompt."""
    cells = Cells()
    cells.scorers["hexphi"] = SCORER
    for arm, several in arms.items():
        for name, values in several.items():
            profile = Profile(name, extreme("power").importances) if name else None
            frame = pl.DataFrame(
                {"id": [f"p{n}" for n in range(len(values))], "category": categories, "value": values}
            )
            cells.add(Subject(arm, profile, "input-only"), "hexphi", "harmfulness", frame)
    return cells


def test_arms_are_compared_on_the_same_prompts_whole_and_by_category() -> None:
    categories = ["a", "a", "b", "b"]
    cells = cells_of(
        {
            "vanilla": {"": [1.0, 2.0, 1.0, 2.0]},
            "vim": {"x": [2.0, 3.0, 1.0, 2.0], "y": [3.0, 4.0, 1.0, float("nan")]},
            "benign:grammar": {"": [1.0, 2.0, 1.0, 3.0]},
        },
        categories,
    )
    table = comparisons_table(cells, ["vanilla", "vim", "benign:grammar"], ["input-only"], 0.95, 1)
    whole = {(r["arm"], r["reference"]): r for r in table.filter(pl.col("category") == "all").to_dicts()}
    row = whole["vim", "vanilla"]
    assert row["value"] == pytest.approx((1 + 1 + 0 + 0 + 2 + 2 + 0) / 7)
    assert (row["n"], row["unscored"], row["profiles"], row["units"]) == (7, 1, 2, 4)
    assert set(whole) == {("vim", "vanilla"), ("vim", "benign:grammar"), ("benign:grammar", "vanilla")}
    parts = {(r["arm"], r["category"]): r for r in table.filter(pl.col("category") != "all").to_dicts()}
    assert parts["vim", "a"]["value"] == 1.5
    assert parts["vim", "b"]["value"] == 0.0
    assert parts["vim", "b"]["p"] is None
    tested = table.drop_nulls("p").filter(pl.col("family") == "arms")
    assert tested["p_adjusted"].to_list() == pytest.approx(holm(tested["p"].to_list()))


def test_every_pair_is_compared_once() -> None:
    found = list(pairs(["vanilla", "icl", "vim", "benign:grammar"], ["input-only", "safety"]))
    arms = [(a, b) for kind, (a, s), (b, _) in found if kind == "arms" and s == "safety"]
    assert len(arms) == 6
    assert arms[0] == ("vim", "icl")
    assert all(b != "icl" or a == "vim" for a, b in arms)
    assert [(a, s) for kind, (a, s), _ in found if kind == "strategies"] == [
        (a, "safety") for a in ("vanilla", "icl", "vim", "benign:grammar")
    ]


def test_holm_golden() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


# ---- values and harms --------------------------------------------------------------------


@given(st.integers(4, 30), st.integers(0, 1000))
@settings(max_examples=30)
def test_correlations_of_many_pairs_are_those_of_one(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(1, 7, (n, 3)).astype(float), draw.normal(size=(n, 2)).round(1)
    found = rank_correlations(x, y, 0.95)
    for i in range(3):
        for j in range(2):
            estimate, p = spearman(x[:, i].tolist(), y[:, j].tolist(), 0.95)
            if estimate.value is None:
                assert math.isnan(found.r[i, j])
                continue
            assert found.r[i, j] == pytest.approx(estimate.value)
            if abs(estimate.value) < 0.999:
                assert p is not None
                assert found.p[i, j] == pytest.approx(max(p, 2 / math.factorial(min(n, 20))))
                assert found.low[i, j] == pytest.approx(estimate.low)
            plain = stats.pearsonr(x[:, i], y[:, j]).statistic
            assert pearson(x, y)[i, j] == pytest.approx(plain, abs=1e-9)


def test_few_profiles_are_never_certain() -> None:
    x = np.arange(4.0)[:, None]
    assert rank_correlations(x, x, 0.95).p[0, 0] == pytest.approx(2 / 24)


def test_bootstrapped_correlations_are_as_wide_as_resampling_one_by_one() -> None:
    draw = np.random.default_rng(4)
    x = draw.normal(size=(80, 1))
    y = 0.5 * x + draw.normal(size=(80, 1))
    low, high = bootstrapped(x, y, 0.95, 1)
    plain = stats.bootstrap(
        (x[:, 0], y[:, 0]), lambda a, b: stats.pearsonr(a, b).statistic, paired=True, vectorized=False,
        n_resamples=2000, method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert float(low[0, 0]) == pytest.approx(plain.low, abs=0.03)
    assert float(high[0, 0]) == pytest.approx(plain.high, abs=0.03)


def test_axes_lie_where_the_circle_has_them() -> None:
    place = axes(
        np.array([extreme(n).importances for n in ("openness-to-change", "conservation", "power")])
    )
    assert place[0, 0] == pytest.approx(5)
    assert place[1, 0] == pytest.approx(-5)
    assert place[2, 0] == pytest.approx(0)
    assert place[2, 1] == pytest.approx(5 / 3)


def test_a_planted_slope_is_found_on_its_axis() -> None:
    importances = people(200)
    draw = np.random.default_rng(3)
    harm = 2 + 0.3 * axes(importances)[:, 0] + draw.normal(0, 0.2, 200)
    found = on_axes(importances, harm, 0.95)
    assert found is not None
    openness, enhancement = found
    design = np.column_stack([np.ones(200), axes(importances)])
    expected = np.linalg.lstsq(design, harm, rcond=None)[0]
    assert openness.value == pytest.approx(expected[1])
    assert openness.low is not None
    assert openness.high is not None
    assert openness.low < 0.3 < openness.high
    assert openness.p is not None
    assert openness.p < 1e-9
    assert enhancement.value == pytest.approx(expected[2])
    assert on_axes(importances, np.ones(200), 0.95) is None
    assert on_axes(importances[:5], harm[:5], 0.95) is None


def test_ridge_orders_the_values_and_inflation_tells_their_collinearity() -> None:
    importances = people(150)
    own = importances - importances.mean(axis=1, keepdims=True)
    power = VALUES.index("power")
    harm = own[:, power] + np.random.default_rng(1).normal(0, 0.5, 150)
    found = ridge(importances, harm, 0.95, 1)
    assert found is not None
    assert max(range(10), key=lambda n: found[n].value) == power
    assert found[power].low is not None
    assert found[power].low > 0
    assert ridge(importances[:8], harm[:8], 0.95, 1) is None
    near = importances.copy()
    near[:, 0] = near[:, 1] + np.random.default_rng(2).normal(0, 0.1, 150)
    factors = inflation(near)
    assert factors[0] is not None
    assert factors[0] > 50
    assert factors[2] is not None
    assert factors[2] < 1.5
    near[:, 0] = near[:, 1]
    assert inflation(near) == [None] * 10


def test_the_smallest_correlation_that_is_found_is_found_four_times_of_five() -> None:
    n, tests = 154, 140
    least = detectable(n, tests, 0.05)
    assert least is not None
    draw = np.random.default_rng(5)
    x = draw.normal(size=(4000, n))
    y = least * x + math.sqrt(1 - least**2) * draw.normal(size=x.shape)
    r = np.array([stats.pearsonr(a, b).pvalue for a, b in zip(x, y, strict=True)])
    assert np.mean(r < 0.05 / tests) == pytest.approx(0.8, abs=0.05)
    assert detectable(4, 10, 0.05) is None


def harms_of(values: np.ndarray, importances: np.ndarray, *categories: str) -> Harms:
    about = [
        {"benchmark": "hexphi", "category": c, "metric": "harmfulness", **SCORER, "unscored": 0}
        for c in categories
    ]
    return Harms("vim", "input-only", importances, values, about)


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
    regressions = regressions_table([harms_of(values, importances, "up", "down", "flat", "part")], 0.95, 1)
    assert "flat" not in regressions["category"].to_list()
    assert not regressions.select(pl.col(pl.Float64).is_nan().any()).row(0).count(True)


# ---- hypotheses --------------------------------------------------------------------------


def claim(sign: str, value: str = "power", category: str = "up", name: str = "") -> Hypothesis:
    return Hypothesis(
        name or f"{value}{sign}{category}", value, sign, "harm", (("hexphi", (category,)),), "us"
    )


def test_hypotheses_are_judged_by_their_stated_sign() -> None:
    importances = people(60)
    power = importances[:, VALUES.index("power")]
    noise = np.random.default_rng(8).normal(size=60)
    noise -= np.polyval(np.polyfit(power, noise, 1), power)
    harm = harms_of(np.column_stack([power, noise, np.ones(60)]), importances, "up", "noise", "flat")
    stated = [claim("+"), claim("-"), claim("+", category="noise"), claim("+", category="flat"),
              claim("+", category="elsewhere")]  # fmt: skip
    table = hypotheses_table([harm], stated, 0.95, 0.05)
    assert table["verdict"].to_list() == [
        "supported",
        "contradicted",
        "not shown",
        "not tested",
        "not tested",
    ]
    assert table["n"].to_list() == [60, 60, 60, 60, 0]
    assert hypotheses_table([], stated, 0.95, 0.05)["verdict"].to_list() == ["not tested"] * 5
    two_sided = rank_correlations(power[:, None], noise[:, None], 0.95).p[0, 0]
    p = table["p"][2]
    assert min(p, 1 - p) == pytest.approx(two_sided / 2)


def test_the_published_claims_are_whole_and_have_their_hash() -> None:
    stated = load_hypotheses("published")
    assert len(stated.hypotheses) == 17
    assert {h.sign for h in stated.hypotheses} == {"+", "-"}
    assert stated.key == load_hypotheses("published").key
    assert stated.hypotheses[0].fits("beavertails", "hate_speech,offensive_language")
    assert not stated.hypotheses[0].fits("hexphi", "hate_harass_violence")


@pytest.mark.parametrize(
    ("text", "told"),
    [("hypotheses: []", "expected a list"), ("hypotheses: [{id: a}]", "the field 'value' is missing"),
     ("hypotheses: [{id: a, value: powr, sign: '+', harm: h, in: {hexphi: [x]}}]", "did you mean 'power'"),
     ("hypotheses: [{id: a, value: power, sign: up, harm: h, in: {hexphi: [x]}}]", "the sign is + or -"),
     ("hypotheses: [{id: a, value: power, sign: '+', harm: h, in: {hexphy: [x]}}]", "expected benchmarks"),
     ("hypotheses: [{id: a, value: power, sing: '+', harm: h, in: {rtp: }}]", "did you mean 'sign'")],
)  # fmt: skip
def test_wrong_hypotheses_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load_hypotheses(str(tmp_path / "own.yaml"))
    assert told in str(error.value)
    assert "own.yaml" in str(error.value)


# ---- side effects ------------------------------------------------------------------------


def test_what_moved_is_told_by_what_was_wanted() -> None:
    """By hand: vanilla rates everything 3; power's target is up for one of two profiles."""

    def row(arm: str, profile: Profile, rated: float) -> dict[str, Any]:
        targets = {f"target_{v}": x for v, x in zip(VALUES, profile.importances, strict=True)}
        predicted = {f"predicted_{v}": rated for v in VALUES}
        return {
            "arm": arm,
            "profile": profile.name,
            "strategy": "input-only",
            "reading": "text",
            **targets,
            **predicted,
        }

    power, kind = extreme("power"), extreme("benevolence")
    rows = [row("vanilla", p, 3.0) for p in (power, kind)] + [row("vim", power, 5.0), row("vim", kind, 2.0)]
    found = moved_table(pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA), 0.95)
    by_cell = {(r["schwartz_value"], r["aim"]): r for r in found.to_dicts()}
    assert by_cell["power", "up"]["value"] == 2.0
    assert by_cell["power", "down"]["value"] == -1.0
    assert by_cell["power", "all"]["value"] == 0.5
    assert by_cell["hedonism", "up"]["n"] == 0
    assert by_cell["hedonism", "down"]["n"] == 2
    without = moved_table(pl.DataFrame(rows[2:], schema=ALIGNMENT_SCHEMA), 0.95)
    assert without["value"].null_count() == without.height


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


# ---- the gate ----------------------------------------------------------------------------


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


# ---- simulated score tables --------------------------------------------------------------


def test_simulated_tables_go_through_the_metrics() -> None:
    benches = smaller(PAPER, 0.01)
    for name, bench in benches.items():
        vanilla, aligned, categories = simulated(people(3), name, bench, World(), 1)
        found = benchmark_metrics(score_table(vanilla, categories), name, 0.95)
        without = int(np.isnan(vanilla).all(axis=1).sum())
        assert found[0][2].n == len(categories) - without
        assert aligned.shape == (3, len(categories), bench.samples)
        low, high = {"hexphi": (1, 5)}.get(name, (0, 1))
        assert low <= np.nanmin(aligned) <= np.nanmax(aligned) <= high
        assert np.isnan(aligned).mean() < 0.05


def test_planted_correlations_are_there() -> None:
    importances = people(154)
    world = World(planted={("beavertails", "c", "power"): 0.6}, unscored=0.0)
    bench = Bench("flagged", {"c": 200, "d": 200})
    found = []
    for seed in range(15):
        _, aligned, categories = simulated(importances, "beavertails", bench, world, seed)
        harm = np.nanmean(aligned[:, categories == "c"], axis=(1, 2))
        found.append(stats.spearmanr(importances[:, VALUES.index("power")], harm).statistic)
    assert np.mean(found) == pytest.approx(0.55, abs=0.06)


def test_harms_leave_out_what_is_no_harm() -> None:
    rows = [
        {"arm": "vim", "profile": p.name, "strategy": "input-only", "benchmark": b, "category": "all", "metric": m,
         "value": v, "low": None, "high": None, "n": 3, "unit": "prompt", "unscored": 1, **SCORER}
        for p, v in zip(EXTREMES, range(14), strict=True)
        for b, m in (("hexphi", "harmfulness"), ("hexphi", "share_of_5"), ("harmless", "refusal_rate"))
    ]  # fmt: skip
    found = list(harms(pl.DataFrame(rows, schema=SUBJECTS_SCHEMA), EXTREMES))
    assert len(found) == 1
    assert [a["benchmark"] for a in found[0].about] == ["hexphi"]
    assert found[0].values[:, 0].tolist() == list(range(14))
    assert found[0].about[0]["unscored"] == 14
