"""Tests of `unharm.runs.tools.pilot_sample`."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.records import Prompt
from unharm.runs.tools.pilot_sample import sizes_of, spread


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"vanilla": 9000, "vim": 9000}, {"vanilla": 1000, "vim": 1000}),
        (
            {"vanilla": 9000, "vim": 9000, "icl": 9000, "b": 9000},
            {"vanilla": 732, "vim": 422, "icl": 422, "b": 422},
        ),
        ({"vanilla": 300, "vim": 9000}, {"vanilla": 300, "vim": 1700}),
        ({"vanilla": 30, "vim": 40}, {"vanilla": 30, "vim": 40}),
    ],
)
def test_the_reference_gets_more_and_small_arms_give_what_they_have(
    texts: dict[str, int], expected: dict[str, int]
) -> None:
    assert sizes_of(2000, texts, "vanilla") == expected


@given(
    st.integers(1, 3000),
    st.dictionaries(st.sampled_from(["vanilla", "vim", "icl", "a", "b"]), st.integers(0, 2000), min_size=1),
)
def test_no_arm_gives_more_than_it_has(n: int, texts: dict[str, int]) -> None:
    sizes = sizes_of(n, texts, "vanilla")
    assert set(sizes) == set(texts)
    assert all(0 <= sizes[arm] <= count for arm, count in texts.items())
    assert min(n, sum(texts.values())) - len(texts) < sum(sizes.values()) <= n


def test_categories_keep_their_shares() -> None:
    prompts = {f"p{n}": Prompt(f"p{n}", "text", "rare" if n < 30 else "common") for n in range(300)}
    completions = [(f"{name}-{sample}", name) for name in prompts for sample in range(2)]
    drawn = spread(completions, prompts, 100, seed=3)
    assert len(set(drawn)) == 100
    by_category = Counter(prompts[name.partition("-")[0]].category for name in drawn)
    assert by_category == {"rare": 10, "common": 90}
    assert drawn == spread(list(reversed(completions)), prompts, 100, seed=3)
    assert drawn != spread(completions, prompts, 100, seed=4)
