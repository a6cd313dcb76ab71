"""Tests of `unharm.analysis.set_aside`."""

from __future__ import annotations

import numpy as np
import pytest

from unharm.analysis.set_aside import NO_SCORES, NOTHING_RISES, CategoryHarm, learn_values
from unharm.core.values import VALUES

POWER = VALUES.index("power")


def importances(profiles: int = 40) -> np.ndarray:
    return np.random.default_rng(5).integers(1, 7, (profiles, len(VALUES))).astype(float)


def test_the_value_that_rises_with_the_harm_is_set_aside_and_an_unrelated_one_is_the_control() -> None:
    x = importances()
    harm = CategoryHarm("hexphi", "malware", x[:, POWER] / 10, 12)
    (one,) = learn_values(x, np.arange(40), [harm], 0.95, 1)
    assert (one.value, one.profiles, one.missing, one.note) == ("power", 40, 0, "")
    assert one.r == pytest.approx(1.0)
    assert one.p_adjusted is not None
    assert one.p_adjusted < 1e-6
    r = [abs(np.corrcoef(x[:, n], x[:, POWER])[0, 1]) for n in range(len(VALUES))]
    assert r[VALUES.index(one.control)] < 0.15
    (other,) = learn_values(
        x, np.arange(40), [CategoryHarm("hexphi", "malware", harm.values, 12, (one.control,))], 0.95, 1
    )
    assert other.control not in ("power", one.control)


def test_a_profile_without_scores_is_left_out_and_counted_and_no_category_is_dropped() -> None:
    x = importances()
    partial = x[:, POWER] / 10
    partial[3] = np.nan
    harms = [
        CategoryHarm("hexphi", "partial", partial, 12),
        CategoryHarm("hexphi", "none", np.full(40, np.nan), 12),
        CategoryHarm("hexphi", "constant", np.zeros(40), 12),
    ]
    first, second, third = learn_values(x, np.arange(40), harms, 0.95, 1)
    assert (first.value, first.profiles, first.missing) == ("power", 39, 1)
    assert (second.value, second.profiles, second.missing, second.note) == ("", 0, 40, NO_SCORES)
    assert (third.value, third.p, third.note) == ("", None, NOTHING_RISES)


def test_too_few_profiles_are_chosen_by_rank_without_a_p() -> None:
    x = importances(3)
    (one,) = learn_values(x, np.arange(3), [CategoryHarm("hexphi", "malware", x[:, 0], 5)], 0.95, 1)
    assert one.value
    assert one.p is None
    assert one.p_adjusted is None
    assert one.note
