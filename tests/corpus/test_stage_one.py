"""Tests of `unharm.corpus.labels`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.corpus.labels import argument_scores, importance_matrix, label_matrix
from unharm.corpus.vim import would_say

LABELS = st.lists(st.sampled_from(VALUES), min_size=1, max_size=10, unique=True)


@given(
    st.lists(LABELS, min_size=1, max_size=8),
    st.lists(st.lists(st.floats(1, 6), min_size=10, max_size=10), min_size=1, max_size=5),
)
def test_the_matrix_of_stage_one_is_the_rule(
    labels: list[list[str]], importances: list[list[float]]
) -> None:
    arguments = [Argument(str(i), "c", "against", "p", tuple(found)) for i, found in enumerate(labels)]
    profiles = [Profile(str(i), tuple(found)) for i, found in enumerate(importances)]
    scores = argument_scores(importance_matrix(profiles), label_matrix(arguments))
    assert scores.shape == (len(profiles), len(arguments))
    for p, profile in enumerate(profiles):
        for a, argument in enumerate(arguments):
            assert scores[p, a] == min(profile[v] for v in argument.values)
            assert (scores[p, a] >= 3) == would_say(profile, argument, 3)
