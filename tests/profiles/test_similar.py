"""Tests of `unharm.profiles.similar`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy

from unharm.profiles.extreme import extreme
from unharm.profiles.similar import jensen_shannon, most_similar

VECTORS = hnp.arrays(float, st.tuples(st.integers(1, 12), st.just(10)), elements=st.floats(1, 6))


@given(VECTORS)
def test_divergence_is_the_mean_of_two_scipy_entropies(vectors: np.ndarray) -> None:
    target = np.array(extreme("power").importances)
    q = target / target.sum()
    middles = [(v / v.sum() + q) / 2 for v in vectors]
    expected = [(entropy(v, m) + entropy(q, m)) / 2 for v, m in zip(vectors, middles, strict=True)]
    found = jensen_shannon(vectors, target)
    assert found == pytest.approx(expected, abs=1e-12)
    assert (found >= 0).all()


def test_ties_go_to_the_first_respondent() -> None:
    vectors = np.array([[2.0] * 10, [3.0] * 10, [1.0] * 9 + [6.0], [5.0] * 10])
    assert most_similar(vectors, np.array([4.0] * 10), 3).tolist() == [0, 1, 3]
