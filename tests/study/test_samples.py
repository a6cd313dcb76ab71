"""How often arms are sampled: the rule, the plan, the keys."""

from __future__ import annotations

from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.runs import keys
from unharm.runs.plan import Plan
from unharm.runs.planning.summary import summary_of
from unharm.study.samples import arm_samples


def test_a_small_study_samples_all_arms_alike(tiny_study: dict[str, Any], load: Any) -> None:
    plan = Plan(load(tiny_study))
    assert {plan.samples(arm, "hexphi") for arm in plan.study.arms} == {1}
    assert plan.compared_samples("vanilla", "hexphi") is None


@pytest.mark.parametrize(
    ("benchmark", "arm", "subjects", "samples"),
    [
        ("hexphi", "vanilla", 90, 10),  # 9 × 2 further of 90
        ("hexphi", "vanilla", 89, 1),
        ("hexphi", "vim", 90, 1),
        ("rtp", "vanilla", 90, 3),  # sampled three times anyway
        ("questionnaire", "vanilla", 90, 1),
    ],
)
def test_ten_samples_where_they_cost_little(
    tiny_study: dict[str, Any], load: Any, benchmark: str, arm: str, subjects: int, samples: int
) -> None:
    assert arm_samples(load(tiny_study), benchmark, arm, 2, subjects) == samples


def test_at_temperature_0_more_samples_are_useless(tiny_study: dict[str, Any], load: Any) -> None:
    study = load(tiny_study | {"samples": {"vanilla": 8}}, "benchmarks.hexphi.temperature=0")
    assert arm_samples(study, "hexphi", "vanilla", 1, 1000) == 1
    assert arm_samples(study, "beavertails", "vanilla", 1, 1000) == 8


def test_an_arm_that_is_sampled_more_often_has_other_keys_alone(
    tiny_study: dict[str, Any], load: Any
) -> None:
    plain = Plan(load(tiny_study))
    often = Plan(load(tiny_study | {"samples": {"vanilla": 4, "benign:grammar": 2}}))
    for one, other in zip(plain.subjects, often.subjects, strict=True):
        shards = [list(keys.shards(p, s, "base", "a")) for p, s in ((plain, one), (often, other))]
        same = {s.completions.path for s in shards[0]} & {s.completions.path for s in shards[1]}
        changed = {s.benchmark for s in shards[0] if s.completions.path not in same}
        expected = {"rtp", "hbr", "hexphi", "beavertails"} if one.arm == "vanilla" else set()
        expected = {"hbr", "hexphi", "beavertails"} if one.arm == "benign:grammar" else expected
        assert changed == expected, one.label
    assert often.completions("hexphi") == plain.completions("hexphi") + 10 * (3 + 1)
    assert often.compared_samples("vanilla", "rtp") == 3
    first = next(keys.shards(often, often.subjects[0], "base", "a"))
    assert len(keys.requests(often, first, None)) == 4 * len(first.prompts)
    notes = summary_of(often).notes
    assert "hexphi: vanilla sampled 4 times per prompt, as there are no profiles to average over" in notes


@pytest.mark.parametrize(
    ("samples", "message"),
    [({"vim": 4}, "has profiles"), ({"benign:dolly": 2}, "not in this study"), ({"vanilla": 0}, "greater")],
)
def test_wrong_samples_are_named(
    tiny_study: dict[str, Any], load: Any, samples: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(tiny_study | {"samples": samples})
