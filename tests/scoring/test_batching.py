"""Tests of `unharm.scoring.batching`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unharm.scoring.batching import batches


@given(st.lists(st.integers(0, 50)), st.integers(1, 60), st.integers(1, 8))
def test_every_text_is_in_one_batch_within_the_limits(lengths: list[int], tokens: int, rows: int) -> None:
    made = list(batches(lengths, tokens, rows))
    assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[p] for p in batch) <= tokens
