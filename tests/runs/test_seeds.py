"""Training seeds in the plan and in the keys."""

from __future__ import annotations

from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.core.hashing import content_hash
from unharm.runs import keys
from unharm.runs.plan import Plan

Places = dict[str, str]


def places(plan: Plan) -> tuple[Places, Places]:
    """The keys of all adapters and of all shards with their scores, by path."""
    adapters = [keys.adapter_artefact(plan, a, "base") for a in plan.adapters]
    shards = [s for subject in plan.subjects for s in keys.shards(plan, subject, "base", "adapter")]
    stored = [a for s in shards for a in (s.completions, *s.scored.values())]
    return {a.path: a.key for a in adapters}, {a.path: a.key for a in stored}


def test_a_study_without_seeds_keeps_the_keys_of_its_adapters(
    tiny_study: dict[str, Any], load: Any
) -> None:
    adapters, _ = places(Plan(load(tiny_study)))
    assert len(adapters) == 7
    assert content_hash([list(a) for a in adapters.items()]) == "f724a9ca844a1739e88d72195263113c"


def test_seeds_that_are_added_use_what_there_is(tiny_study: dict[str, Any], load: Any) -> None:
    before = places(Plan(load(tiny_study)))
    after = places(Plan(load(tiny_study | {"seeds": [42, 7]})))
    for one, other in zip(before, after, strict=True):
        assert one.items() <= other.items()
    added = after[0].keys() - before[0].keys()
    assert len(added) == 7
    assert all("--seed-7." in path for path in added)
    assert all("--seed-7/" in path for path in after[1].keys() - before[1].keys())
    assert len({*after[0].values()}) == 14


def test_only_the_seed_that_is_new_has_new_keys(tiny_study: dict[str, Any], load: Any) -> None:
    two, three = (places(Plan(load(tiny_study | {"seeds": s}))) for s in ([1, 2], [3, 2, 1]))
    for one, other in zip(two, three, strict=True):
        assert one.items() < other.items()


def test_every_trained_arm_has_a_subject_per_seed(tiny_study: dict[str, Any], load: Any) -> None:
    plan = Plan(load(tiny_study | {"seeds": [1, 2]}))
    seeds = {(s.arm, s.profile_name): [] for s in plan.subjects}
    for subject in plan.subjects:
        seeds[subject.arm, subject.profile_name].append(subject.seed)
    assert seeds["vanilla", ""] == [None]
    assert seeds["icl", "power"] == [None]
    assert seeds["vim", "power"] == [1, 2]
    assert seeds["benign:grammar", ""] == [1, 2]
    assert "vim · power · input-only · seed 2" in [s.label for s in plan.subjects]
    parents = {a.parent.seed for a in plan.adapters if a.parent and a.seed == 2}
    assert parents == {2}


def test_some_profiles_alone_have_several_seeds(tiny_study: dict[str, Any], load: Any) -> None:
    plan = Plan(load(tiny_study | {"seeds": {"values": [1, 2], "profiles": ["security"]}}))
    vim = [(s.profile_name, s.seed) for s in plan.subjects if s.arm == "vim"]
    assert vim == [("power", 1), ("benevolence", 1), ("security", 1), ("security", 2)]


@pytest.mark.parametrize(
    ("profiles", "message"), [(["powr"], "unknown profiles powr"), (4, "the study has 3")]
)
def test_profiles_that_the_study_lacks_are_named(
    tiny_study: dict[str, Any], load: Any, profiles: Any, message: str
) -> None:
    plan = Plan(load(tiny_study | {"seeds": {"values": [1, 2], "profiles": profiles}}))
    with pytest.raises(UserError, match=message) as error:
        plan.check_inputs()
    assert error.value.problems[0].where == "seeds.profiles"
