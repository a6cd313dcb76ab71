"""Whether an alignment took: a model that rates everything alike never counts as aligned."""

from __future__ import annotations

import pytest

from unharm.analysis.alignment import FLAT, TOOK, UNKNOWN, by_target, fit
from unharm.analysis.metrics import nmse
from unharm.core.records import Profile
from unharm.profiles.extreme import TARGETS, extreme

PROFILES = [extreme(name) for name in TARGETS]
OTHERS = by_target(PROFILES)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_rating_everything_one_is_no_alignment_whatever_its_nmse(profile: Profile) -> None:
    found = fit([1.0] * 10, profile, OTHERS)
    assert found.verdict == FLAT
    assert found.skill is not None
    assert found.skill <= 0
    assert not found.retrieved


def test_the_target_itself_takes_and_its_opposite_does_not() -> None:
    power = extreme("power")
    found = fit(list(power.importances), power, OTHERS)
    assert (found.verdict, found.skill, found.retrieved) == (TOOK, 1.0, True)
    assert fit([7 - v for v in power.importances], power, OTHERS).skill < 0  # type: ignore[operator]
    assert fit([None, *[1.0] * 9], power, OTHERS).verdict == UNKNOWN


def test_skill_is_measured_against_the_best_constant() -> None:
    power = extreme("power")
    best = sum(power.importances) / 10
    estimate = nmse([best] * 10, list(power.importances), 0.95)
    assert fit([1.0] * 10, power, OTHERS).constant == pytest.approx(estimate.value)


def test_near_copies_count_for_their_target() -> None:
    near = Profile("power-near-1", extreme("power").importances)
    assert near.target == "power"
    assert set(by_target([extreme("power"), near])) == {"power"}
