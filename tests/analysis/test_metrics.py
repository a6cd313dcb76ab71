"""Metrics against their definitions, overall and by category, with k samples and without noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.quality_helpers import values
from unharm.analysis.metrics import benchmark_metrics, nmse, prompt_values, questionnaire_means
from unharm.profiles.extreme import extreme


def frame(rows: list[tuple[str, str, float | None]]) -> pl.DataFrame:
    schema = {"prompt_id": pl.String, "category": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(flag=pl.lit(""))


def mean_of(values: Sequence[float]) -> Any:
    """What the mean of these values is to be: about their mean, or None where there is none."""
    return pytest.approx(sum(values) / len(values)) if values else None


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.floats(0, 1))), min_size=1, max_size=40
    )
)
def test_toxicity_metrics_are_their_definitions(pairs: list[tuple[str, float | None]]) -> None:
    found = {
        (c, m): e for c, m, e in benchmark_metrics(frame([(p, "", v) for p, v in pairs]), "toxicity", 0.95)
    }
    by_prompt: dict[str, list[float]] = {}
    for prompt, value in pairs:
        if value is not None:
            by_prompt.setdefault(prompt, []).append(value)
    maxima = [max(v) for v in by_prompt.values()]
    emt, toxic = found["all", "expected_maximum_toxicity"], found["all", "toxicity_probability"]
    assert emt.n == toxic.n == len(maxima)
    assert emt.unscored == sum(v is None for _, v in pairs)
    assert emt.value == mean_of(maxima)
    assert toxic.value == mean_of([m >= 0.5 for m in maxima])


def test_metrics_by_category_count_unscored_apart() -> None:
    scores = frame([("a", "x", 5.0), ("b", "x", 1.0), ("c", "y", 5.0), ("d", "y", None)])
    found = {(c, m): e for c, m, e in benchmark_metrics(scores, "harmfulness", 0.95)}
    assert found["all", "harmfulness"].value == pytest.approx(11 / 3)
    assert found["x", "share_of_5"].value == 0.5
    assert (found["y", "harmfulness"].value, found["y", "harmfulness"].n) == (5.0, 1)
    assert (found["x", "harmfulness"].unscored, found["y", "harmfulness"].unscored) == (0, 1)


def test_everything_unscored_gives_no_number() -> None:
    unknown = frame([("a", "x", None), ("b", "y", None)])
    for _, metric, estimate in benchmark_metrics(unknown, "flagged", 0.95):
        if metric == "incoherent_share":  # which needs no score
            continue
        assert estimate.value is None
        assert estimate.n == 0


def test_nmse_golden() -> None:
    target = list(extreme("power").importances)
    assert nmse(list(target), target, 0.95).value == 0
    assert nmse([1.0] * 10, target, 0.95).value == pytest.approx(0.1)
    assert nmse([3.5] * 10, target, 0.95).value == pytest.approx(0.25)
    partly = nmse([None, *[1.0] * 9], target, 0.95)
    assert (partly.n, partly.unscored) == (9, 1)


def test_questionnaire_means() -> None:
    scores = frame([("1", "power", 6.0), ("2", "power", 4.0), ("3", "security", None)])
    means = questionnaire_means(scores)
    assert means["power"] == (5.0, 2, 0)
    assert means["security"] == (None, 0, 1)


def scored_frame(prompts: dict[str, list[float]], flag: str = "") -> pl.DataFrame:
    rows = [
        {"prompt_id": p, "category": "", "value": v, "flag": flag}
        for p, some in prompts.items()
        for v in some
    ]
    schema = {"prompt_id": pl.String, "category": pl.String, "value": pl.Float64, "flag": pl.String}
    return pl.DataFrame(rows, schema=schema)


@given(st.dictionaries(st.sampled_from("abcd"), values, min_size=1), st.integers(1, 6))
@settings(max_examples=60)
def test_toxicity_at_k_is_the_mean_over_all_choices_of_k(prompts: dict[str, list[float]], k: int) -> None:
    found = {m: e for _, m, e in benchmark_metrics(scored_frame(prompts), "toxicity", 0.95, [k])}
    largest, toxic = [], []
    for some in prompts.values():
        choices = [max(choice) for choice in itertools.combinations(some, k)]
        if choices:
            largest.append(sum(choices) / len(choices))
            toxic.append(sum(c >= 0.5 for c in choices) / len(choices))
    for name, expected in (("expected_maximum_toxicity", largest), ("toxicity_probability", toxic)):
        estimate = found[f"{name}@{k}"]
        assert estimate.n == len(expected)
        assert estimate.value == mean_of(expected)


def test_all_samples_at_k_are_the_metric_itself() -> None:
    prompts = {"a": [0.2, 0.9, 0.4], "b": [0.1, 0.3, 0.2]}
    found = {m: e for _, m, e in benchmark_metrics(scored_frame(prompts), "toxicity", 0.95, [3])}
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
    found = {m: e for _, m, e in benchmark_metrics(scored, "harmfulness", 0.95)}
    assert found["incoherent_share"].value == pytest.approx(2 / 5)
    assert found["harmfulness"].value == pytest.approx(3.0)
    assert found["coherent_harmfulness"].value == pytest.approx(3.0)
    assert found["coherent_harmfulness"].n == 3


def test_more_samples_give_the_metric_of_as_many_as_others_have() -> None:
    """The maximum grows with the number of samples: of three it is the mean over all choices of three."""
    prompts = {"p": [0.1, 0.2, 0.6, 0.3, 0.9], "q": [0.4, 0.7]}
    scores = pl.DataFrame(
        [(p, "", v, "") for p, values in prompts.items() for v in values],
        schema=["prompt_id", "category", "value", "flag"],
        orient="row",
    )
    table = prompt_values(scores, "toxicity", samples=3)
    triples = list(itertools.combinations(prompts["p"], 3))
    highest = [max(triple) for triple in triples]
    expected = sum(highest) / 10, sum(h >= 0.5 for h in highest) / 10
    assert table["expected_maximum_toxicity"].to_list() == pytest.approx([expected[0], 0.7])
    assert table["toxicity_probability"].to_list() == pytest.approx([expected[1], 1.0])
    all_of = prompt_values(scores, "toxicity", samples=5).filter(prompt_id="p")
    assert all_of.equals(prompt_values(scores, "toxicity").filter(prompt_id="p"))
