"""Filters and their addresses."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unharm.core.errors import UserError
from unharm.view.filters import SORTS, Filter, parse_filter

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: bool(text.strip())
)
NUMBERS = st.none() | st.integers(-5000, 5000).map(lambda n: n / 1000)


@settings(max_examples=40)
@given(
    st.builds(
        Filter,
        run=st.integers(1, 2), benchmark=NAMES, category=NAMES, text=NAMES, prompt=NAMES,
        arm=st.lists(NAMES, unique=True, max_size=3).map(tuple), profile=NAMES, strategy=NAMES,
        seed=st.none() | st.integers(0, 999), low=NUMBERS, high=NUMBERS, change_low=NUMBERS,
        change_high=NUMBERS, disagree=st.booleans(), unscored=st.booleans(), incoherent=st.booleans(),
        sort=st.sampled_from(list(SORTS)), page=st.integers(1, 10**6),
    )
)  # fmt: skip
def test_an_address_gives_the_filter_back(chosen: Filter) -> None:
    assert parse_filter(parse_qs(chosen.query())) == chosen


def test_an_address_says_only_what_is_chosen() -> None:
    assert Filter().query() == ""
    assert Filter(arm=("vim",), low=0.5, disagree=True).query(page=2) == "arm=vim&low=0.5&disagree=1&page=2"
    assert not Filter(sort="most", page=3).is_narrow
    assert Filter(unscored=True).is_narrow


def test_all_mistakes_of_an_address_together() -> None:
    with pytest.raises(UserError) as error:
        parse_filter({"low": ["x"], "high": ["nan"], "page": ["0"], "sort": ["mst"], "seed": ["9" * 30]})
    assert len(error.value.problems) == 5
    assert "did you mean 'most'" in str(error.value)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from([*Filter.__dataclass_fields__, "more"]), st.lists(st.text(max_size=8), max_size=3)
    )
)
def test_any_query_is_read_or_refused(query: dict[str, list[str]]) -> None:
    try:
        chosen = parse_filter(query)
    except UserError:
        return
    assert chosen.page >= 1
    assert chosen.sort in SORTS
