"""Tests of `unharm.study.seeds`."""

from __future__ import annotations

from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.study.check import load_study
from unharm.study.seeds import Seeds
from unharm.study.spec import Study


@pytest.mark.parametrize(
    ("seeds", "message", "field"),
    [
        ([1, 2, 2], "given twice: 2", "seeds.values"),
        ([1, -2], "greater than or equal to 0", "seeds.values.1"),
        ([1, True], "give a number, not true", "seeds.values.1"),
        ([], "give at least one seed", "seeds.values"),
        (list(range(21)), "give at most 20 seeds", "seeds.values"),
        (3, "give a list of seeds", "seeds"),
        ({"values": [1, 2], "profiles": 0}, "how many of the first", "seeds.profiles"),
        ({"values": [1, 2], "profiles": []}, "how many of the first", "seeds.profiles"),
        ({"values": [1, 2], "profile": 3}, "unknown field 'profile'", "seeds.profile"),
    ],
)
def test_wrong_seeds_are_named(
    tiny_study: dict[str, Any], load: Any, seeds: Any, message: str, field: str
) -> None:
    with pytest.raises(UserError) as error:
        load(tiny_study | {"seeds": seeds})
    (problem,) = error.value.problems
    assert message in problem.message
    assert problem.where.endswith(field)


def test_seeds_without_a_trained_arm_are_an_error(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError, match="no arm is trained"):
        load(tiny_study | {"seeds": [1, 2], "arms": ["vanilla", "icl"]})


def test_a_list_of_seeds_survives_its_own_json() -> None:
    study = load_study("quickstart", ["seeds=[1, 2]"])
    assert study.seeds == Seeds(values=[1, 2])
    assert Study.model_validate(study.model_dump(mode="json")).seeds == study.seeds


def test_profiles_get_all_seeds_or_the_first() -> None:
    names = ["power", "benevolence", "security"]
    some = Seeds(values=[4, 5, 6], profiles=2)
    assert [some.of_profile(n, names) for n in names] == [[4, 5, 6], [4, 5, 6], [4]]
    named = Seeds(values=[4, 5], profiles=["security"])
    assert [named.of_profile(n, names) for n in names] == [[4], [4], [4, 5]]
    assert Seeds(values=[4, 5]).of_profile("power", names) == [4, 5]


def test_a_part_of_the_profiles_keeps_its_seeds() -> None:
    names = ["power", "benevolence", "security"]
    first_two = Seeds(values=[4, 5], profiles=2)
    assert first_two.of_subset(["benevolence", "security"], names).profiles == ["benevolence"]
    assert first_two.of_subset(["security"], names) == Seeds(values=[4])
    assert first_two.of_subset(["power"], names) == Seeds(values=[4, 5])
