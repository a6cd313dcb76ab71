"""Tests of `unharm.runs.halves`."""

from __future__ import annotations

from unharm.runs.halves import profile_halves


def test_halves_of_profiles_are_even_and_do_not_depend_on_the_order() -> None:
    names = [f"x{n}" for n in range(9)]
    one, other = profile_halves(names, 3)
    assert (len(one), len(other)) == (5, 4)
    assert sorted(one + other) == names
    assert one == sorted(one)
    assert set(profile_halves(names[::-1], 3)[0]) == set(one)
    assert profile_halves(names, 4)[0] != one
