"""Tests of `unharm.core.arms`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.arms import (
    ARMS,
    Dose,
    benign_set,
    dose_of,
    dosed,
    external_adapter,
    full_arm,
    has_adapter,
    has_profile,
    is_trained,
    vim_stages,
    without_doses,
)


@given(
    st.sampled_from([*ARMS, "adapter:mine", "adapter:a@b"]),
    st.one_of(
        st.integers(1, 10_000).map(lambda n: Dose(epoch=n)),
        st.integers(1, 10_000).map(lambda n: Dose(scale=n / 100)),
    ),
)
def test_a_dose_is_read_as_it_is_written(arm: str, dose: Dose) -> None:
    name = dosed(arm, dose)
    assert (dose_of(name), full_arm(name)) == (dose, arm)
    assert (has_profile(name), is_trained(name)) == (has_profile(arm), is_trained(arm))
    assert (has_adapter(name), benign_set(name)) == (has_adapter(arm), benign_set(arm))
    assert (vim_stages(name), external_adapter(name)) == (vim_stages(arm), external_adapter(arm))


@pytest.mark.parametrize(
    "arm", [*ARMS, "served:model@0.5", "served:m@epoch3", "vim@epoch0", "vim@-1", "vim@x"]
)
def test_other_names_are_no_doses(arm: str) -> None:
    assert dose_of(arm) is None
    assert full_arm(arm) == arm
    assert without_doses([arm, "vim@0.5"]) == [arm]
