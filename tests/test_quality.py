"""Agreement of scorers and people, metrics of so many samples, coherence, maps between scorers."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from unharm.analysis.agreement import (
    alpha,
    by_cluster,
    coincidence_parts,
    correlation,
    interval_alpha,
    interval_parts,
    kappa,
    moment_parts,
    resampled,
    table_parts,
)
from unharm.analysis.calibration import Calibration, calibrate, load, pooled, save
from unharm.analysis.human_labels import read_people
from unharm.analysis.metrics import benchmark_metrics
from unharm.analysis.quality import agreement_rows, levels_of, scorer_rows
from unharm.core.errors import UserError
from unharm.scoring import ScorerRow

LEVELS = np.arange(1.0, 6.0)


def total(parts: np.ndarray) -> np.ndarray:
    return parts.sum(axis=0, keepdims=True)


# ---- agreement ---------------------------------------------------------------------------

X = math.nan
PUBLISHED = np.array(
    [[1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
     [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
     [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
     [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X]]
).T  # fmt: skip
"""Four observers, twelve units (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011)."""


def test_alpha_is_that_of_the_published_example() -> None:
    parts = total(coincidence_parts(PUBLISHED, LEVELS))
    assert alpha(parts, 5, ordinal=False)[0] == pytest.approx(0.743, abs=5e-4)
    assert alpha(parts, 5, ordinal=True)[0] == pytest.approx(0.815, abs=5e-4)
    assert interval_alpha(total(interval_parts(PUBLISHED)))[0] == pytest.approx(0.849, abs=5e-4)


pairs = st.lists(st.tuples(st.sampled_from(LEVELS), st.sampled_from(LEVELS)), min_size=2, max_size=60)


@given(pairs)
def test_kappa_is_that_of_the_library(some: list[tuple[float, float]]) -> None:
    one, other = (np.array(column) for column in zip(*some, strict=True))
    found = kappa(total(table_parts(one, other, LEVELS)), LEVELS)[0]
    if len(set(one) | set(other)) == 1:
        assert math.isnan(found)
    else:
        expected = cohen_kappa_score(one, other, weights="quadratic", labels=LEVELS)
        assert found == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=40))
def test_rank_correlation_is_that_of_the_library(some: list[tuple[float, float]]) -> None:
    one, other = (np.array(column) for column in zip(*some, strict=True))
    found = correlation(total(moment_parts(stats.rankdata(one), stats.rankdata(other))))[0]
    if len(set(one)) < 2 or len(set(other)) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-9)


def test_resampling_whole_prompts_is_wider_where_they_are_alike() -> None:
    draw = np.random.default_rng(1)
    quality = draw.random(60)
    clusters = np.repeat(np.arange(60), 10)
    agree = (draw.random(600) < quality[clusters]).astype(float)
    other = np.zeros(600)

    def share(clusters: np.ndarray) -> tuple[float, float]:
        sums = by_cluster(clusters, lambda a, b: table_parts(a, b, np.array([0.0, 1.0])), agree, other)
        found = resampled(sums, lambda s: s[:, 2] / s.sum(axis=1), 0.95, 3, 600)
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    alone, together = share(np.arange(600)), share(clusters)
    exact = 1.96 * math.sqrt(agree.mean() * (1 - agree.mean()) / 600)
    assert alone[1] - alone[0] == pytest.approx(2 * exact, rel=0.1)
    by_prompt = 1.96 * agree.reshape(60, 10).mean(axis=1).std(ddof=1) / math.sqrt(60)
    assert together[1] - together[0] == pytest.approx(2 * by_prompt, rel=0.1)


def test_rows_are_taken_in_parts_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    x, clusters = draw.random(1000), draw.integers(0, 50, 1000)
    whole = by_cluster(clusters, moment_parts, x, x * x)
    monkeypatch.setattr("unharm.analysis.agreement.ROWS", 77)
    assert np.allclose(by_cluster(clusters, moment_parts, x, x * x), whole)


def scores(values: list[float | None], **more: Any) -> pl.DataFrame:
    rows = [
        {"completion_id": f"c{n}", "prompt_id": f"p{n // 2}", "value": v,
         "status": "scored" if v is not None else "refused", "flag": ""}
        for n, v in enumerate(values)
    ]  # fmt: skip
    schema = {"completion_id": pl.String, "prompt_id": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema).with_columns(**more)


JUDGE = ScorerRow("harmfulness", "v", False, "", "judge", "one")
ROWS = {
    "a": JUDGE, "b": ScorerRow("harmfulness", "v", False, "", "judge", "two"),
    "c": ScorerRow("harmfulness", "v", False, "", "other", "one"),
}  # fmt: skip


def test_pairs_count_what_only_one_has_scored_and_name_their_kind() -> None:
    one = scores([1.0, 5.0, 3.0, None, None] + [2.0, 4.0] * 20)
    other = scores([1.0, 4.0, None, 2.0, None] + [2.0, 4.0] * 20)
    found = agreement_rows("hexphi", {"a": one, "b": other, "c": one}, ROWS, None, 0.95, 1)
    by_pair = {(r["one"], r["other"], r["measure"]): r for r in found}
    row = by_pair["a", "b", "agreement"]
    assert (row["n"], row["unscored"], row["kind"]) == (42, 2, "wordings")
    assert row["value"] == pytest.approx(41 / 42)
    assert by_pair["a", "c", "weighted_kappa"]["kind"] == "scorers"
    assert by_pair["a", "c", "weighted_kappa"]["value"] == 1.0
    difference = by_pair["a", "b", "mean_difference"]
    assert (difference["mean_one"], difference["mean_other"]) == (126 / 42, 125 / 42)
    assert difference["unit"] == "prompt"
    together = by_pair["a, b, c", "", "krippendorff_alpha"]
    assert 0.9 < together["value"] < 1


def test_nothing_to_compare_is_no_number() -> None:
    one, other = scores([1.0, None]), scores([None, 2.0])
    found = agreement_rows("hexphi", {"a": one, "b": other}, ROWS, None, 0.95, 1)
    assert [r["value"] for r in found] == [None] * len(found)
    assert agreement_rows("hexphi", {"a": one}, ROWS, None, 0.95, 1) == []
    same = agreement_rows("hexphi", {"a": scores([3.0] * 4), "b": scores([3.0] * 4)}, ROWS, None, 0.95, 1)
    assert {r["measure"]: r["value"] for r in same}["weighted_kappa"] is None


def test_people_are_compared_with_scorers_and_with_each_other(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    lines = [f"c{n},{'anna' if n % 2 else 'ben'},{1 + n % 5}" for n in range(40)]
    lines += [f"c{n},{'ben' if n % 2 else 'anna'},{1 + n % 5}" for n in range(20)]
    file.write_text("\n".join(["completion_id,rater,value", *lines, "c39,ben,", "elsewhere,ben,3"]))
    people = read_people(file)
    one = scores([1.0 + n % 5 for n in range(40)])
    found = agreement_rows("hexphi", {"a": one}, ROWS, people, 0.95, 1)
    kinds = {(r["one"], r["other"]): (r["kind"], r["n"]) for r in found if r["measure"] == "agreement"}
    assert kinds == {
        ("a", "person ben"): ("scorer and person", 30),
        ("a", "person anna"): ("scorer and person", 30),
        ("person ben", "person anna"): ("people", 20),
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [("completion_id,value\nc1,four\n", ":2: labels of people: 'four' is no number"),
     ("completion_id,value\nc1,4\nc1,5\n", ":3: labels of people: a second label"),
     ("id,value\nc1,4\n", "the column 'completion_id' is missing"), ("", "the file is empty")],
)  # fmt: skip
def test_wrong_labels_of_people_are_told(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_people(tmp_path / "labels.csv")
    assert what in str(error.value)


def test_what_came_of_the_completions_is_counted() -> None:
    rows = scorer_rows("hexphi", {"a": scores([1.0, None, 3.0, 3.0, None, None])}, ROWS, 0.95)
    assert len(rows) == 1
    row = rows[0]
    assert (row["completions"], row["scored"], row["refused"], row["unscored"]) == (6, 3, 3, 0)
    left = scores([1.0, None]).with_columns(status=pl.Series(["scored", "unscored"]))
    assert scorer_rows("hexphi", {"a": left}, ROWS, 0.95)[0]["unscored"] == 1
    assert row["value"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert (row["n"], row["unit"]) == (3, "prompt")
    assert row["mean"] == pytest.approx(7 / 3)


def test_levels_are_those_of_the_measure() -> None:
    assert levels_of("harmfulness", np.array([1.0, 3.0])).tolist() == [1, 2, 3, 4, 5]
    assert levels_of("flagged", np.array([0.0])).tolist() == [0, 1]


# ---- metrics -----------------------------------------------------------------------------


def scored_frame(prompts: dict[str, list[float]], flag: str = "") -> pl.DataFrame:
    rows = [
        {"prompt_id": p, "category": "", "value": v, "flag": flag}
        for p, some in prompts.items()
        for v in some
    ]
    schema = {"prompt_id": pl.String, "category": pl.String, "value": pl.Float64, "flag": pl.String}
    return pl.DataFrame(rows, schema=schema)


values = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=6)


@given(st.dictionaries(st.sampled_from("abcd"), values, min_size=1), st.integers(1, 6))
@settings(max_examples=60)
def test_toxicity_at_k_is_the_mean_over_all_choices_of_k(prompts: dict[str, list[float]], k: int) -> None:
    found = {m: e for _, m, e in benchmark_metrics(scored_frame(prompts), "rtp", 0.95, [k])}
    largest, toxic = [], []
    for some in prompts.values():
        choices = [max(choice) for choice in itertools.combinations(some, k)]
        if choices:
            largest.append(sum(choices) / len(choices))
            toxic.append(sum(c >= 0.5 for c in choices) / len(choices))
    for name, expected in (("expected_maximum_toxicity", largest), ("toxicity_probability", toxic)):
        estimate = found[f"{name}@{k}"]
        assert estimate.n == len(expected)
        if expected:
            assert estimate.value == pytest.approx(sum(expected) / len(expected))
        else:
            assert estimate.value is None


def test_all_samples_at_k_are_the_metric_itself() -> None:
    prompts = {"a": [0.2, 0.9, 0.4], "b": [0.1, 0.3, 0.2]}
    found = {m: e for _, m, e in benchmark_metrics(scored_frame(prompts), "rtp", 0.95, [3])}
    assert found["expected_maximum_toxicity@3"].value == found["expected_maximum_toxicity"].value
    assert found["toxicity_probability@3"].value == found["toxicity_probability"].value == 0.5


def test_noise_is_told_apart_from_fluent_harm() -> None:
    """By hand: of four answers two are noise; all are scored 1 on average 3.5, the fluent ones 5 and 3."""
    scored = pl.concat(
        [
            scored_frame({"a": [5.0], "b": [3.0]}),
            scored_frame({"c": [1.0], "d": [5.0]}, "repetitive"),
            scored_frame({"e": [1.0]}, "unmasked"),
        ]
    )
    found = {m: e for _, m, e in benchmark_metrics(scored, "hexphi", 0.95)}
    assert found["incoherent_share"].value == pytest.approx(2 / 5)
    assert found["harmfulness"].value == pytest.approx(3.0)
    assert found["coherent_harmfulness"].value == pytest.approx(3.0)
    assert found["coherent_harmfulness"].n == 3


# ---- maps --------------------------------------------------------------------------------


def world(prompts: int, samples: int, seed: int) -> pl.DataFrame:
    """Two scorers of the same texts: the other's is a monotone, noisy function of the one's."""
    draw = np.random.default_rng(seed)
    one = draw.beta(1.2, 3, prompts * samples)
    other = np.clip(one**0.6 + draw.normal(0, 0.08, len(one)), 0, 1)
    group = [f"p{n // samples}" for n in range(len(one))]
    return pl.DataFrame({"group": group, "one": one, "other": other})


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return calibrate(world(400, 5, 1), ("a", "1"), ("b", "2"), 0.95, 7)


def test_a_map_is_monotone_and_its_error_that_of_new_texts(fitted: Calibration) -> None:
    x = np.linspace(0, 1, 200)
    assert (np.diff(fitted.map(x)) >= 0).all()
    fresh = world(2000, 5, 2)
    error = np.abs(fitted.map(fresh["one"].to_numpy()) - fresh["other"].to_numpy()).mean()
    told = fitted.error["mean_absolute_error"]
    assert told["low"] <= error <= told["high"]
    assert fitted.error["bias"]["low"] <= 0.01
    assert fitted.error["rank_correlation"]["value"] > 0.9
    assert fitted.error["agreement_at_0.5"]["value"] > 0.85
    assert (fitted.n, fitted.groups) == (2000, 400)


def test_metrics_through_a_map_are_those_of_the_other_scorer(fitted: Calibration) -> None:
    """The mean of a map is not enough: a maximum over samples of it lies too low, and its interval is too
    narrow; through imputations both are right."""
    hits, plain, pooled_off = 0, [], []
    for seed in range(10, 30):
        fresh = world(150, 5, seed)
        prompts = fresh.select(prompt_id="group", category=pl.lit(""), value="one", flag=pl.lit(""))
        truth = fresh.group_by("group").agg(pl.col("other").max())["other"].mean()
        mapped = {m: e for _, m, e in benchmark_metrics(prompts, "rtp", 0.95, (), fitted)}
        emt = mapped["expected_maximum_toxicity"]
        assert emt.low is not None
        assert emt.high is not None
        hits += emt.low <= truth <= emt.high
        pooled_off.append(emt.value - truth)
        through = fresh.with_columns(value=pl.Series(fitted.map(fresh["one"].to_numpy())))
        plain.append(through.group_by("group").agg(pl.col("value").max())["value"].mean() - truth)
    assert hits >= 19
    assert np.mean(plain) < -0.012
    assert abs(np.mean(pooled_off)) < 0.006


def test_equal_texts_are_drawn_as_one(fitted: Calibration) -> None:
    values = np.array([0.3, 0.3, 0.3])
    first, second, other = fitted.drawn(values, ["p a", "p a", "q a"], 0)
    assert first == second != other
    assert fitted.drawn(values[:1], ["p a"], 1)[0] != first


def test_a_map_is_the_same_after_its_file(fitted: Calibration, tmp_path: Path) -> None:
    save(fitted, tmp_path / "map.json")
    again = load(tmp_path / "map.json")
    assert again == fitted
    assert again.key == fitted.key


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 2}', '{"version": 1, "knots": 3}']
)
def test_other_files_are_no_maps(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match="not a map"):
        load(tmp_path / "map.json")


def test_what_cannot_be_mapped_is_told() -> None:
    good = world(100, 2, 1)
    for pairs, what in (
        (good.head(40), "only 40 texts in 20 groups"),
        (good.with_columns(other=1 - pl.col("other")), "do not go up together"),
        (good.with_columns(one=5 * pl.col("one")), "not in"),
        (good.with_columns(one=pl.lit(0.5)), "do not go up together"),
        (good.with_columns(other=pl.lit(None, dtype=pl.Float64)), "only 0 texts"),
    ):
        with pytest.raises(UserError, match=what):
            calibrate(pairs, ("a", "1"), ("b", "2"), 0.95, 7)


def test_rubins_rules_golden() -> None:
    """By hand: means 1, 2, 3 have variance 1; within 0.5; total 0.5 + 4/3."""
    value, low, high = pooled([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], 10_000, 0.95)
    assert value == 2.0
    total = 0.5 + 4 / 3
    share = (4 / 3) / total
    old, seen = 2 / share**2, 10_000 / 10_002 * 9_999 * (1 - share)
    half = stats.t.ppf(0.975, 1 / (1 / old + 1 / seen)) * math.sqrt(total)
    assert (low, high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert pooled([1.0, 1.0], [0.0, 0.0], 5, 0.95) == (1.0, None, None)
