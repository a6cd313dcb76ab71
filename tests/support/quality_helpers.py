"""Ratings that hypothesis draws, and sums of parts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

LEVELS = np.arange(1.0, 6.0)


def total(parts: np.ndarray) -> np.ndarray:
    summed: np.ndarray = parts.sum(axis=0, keepdims=True)
    return summed


pairs = st.lists(
    st.tuples(st.sampled_from(LEVELS.tolist()), st.sampled_from(LEVELS.tolist())), min_size=2, max_size=60
)


values = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=6)
