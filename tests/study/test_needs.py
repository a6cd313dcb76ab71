"""Tests of `unharm.study.needs`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from support.studies import study_data
from unharm.core.errors import UserError


def test_paid_answers_need_a_file_that_outlives_the_machine(
    tiny_base: Path, load: Any, tmp_path: Path
) -> None:
    data = study_data(tiny_base, Path("x")) | {"output": "memory://bucket/x"}
    data["scorers"] = {"j": {"kind": "judge", "server": {"url": "http://127.0.0.1:1/v1"}, "model": "m"}}
    data["benchmarks"]["hexphi"]["scorer"] = "j"
    with pytest.raises(UserError, match="need a local file"):
        load(data)
    load(data | {"answers": str(tmp_path / "answers.sqlite")})


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"scorers": {"j": {"kind": "jugde"}}}, ["scorers.j", "unknown kind 'jugde'", "'judge'"]),
    ({"scorers": {"j": {"model": "m"}}}, ["scorers.j", "'kind' is missing"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1"}, "rubrik": "x"}}},
     ["scorers.j.rubrik", "unknown field 'rubrik'", "'rubric'"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1"}, "rubric": "no.yaml"}}},
     ["no.yaml", "no such file"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1"}, "max_cost": 5}}},
     ["scorers.j", "give `price` too"]),
    ({"scorers": {"j": {"kind": "judge", "model": "m", "server": {"url": "http://h/v1", "key": "sk-abc"}}}},
     ["name of an environment variable"]),
    ({"scorers": {"c": {"kind": "classifier", "model": "org/name", "measures": "toxicity", "labels": {"a": 1}}}},
     ["scorers.c", "'revision' is missing"]),
    ({"scorers": {"c": {"kind": "classifier", "model": "./no", "measures": "toxicity", "labels": {"a": 1}}}},
     ["scorers.c.model", "no such folder"]),
    ({"scorers": {"c": {"kind": "classifier", "model": "a/b", "measures": "toxicity", "labels": {"a": "bad"}}}},
     ["a number from 0 to 1"]),
    ({"scorers": {"rating": {"kind": "perplexity"}}}, ["'rating' is the name of a built-in scorer"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "scorer": "offline-flagged"}}},
     ["benchmarks.rtp.scorer", "it measures flagged"]),
    ({"scorers": {"g": {"kind": "guard", "preset": "shieldgemma", "server": {"url": "http://h/v1"},
                        "criteria": {"rude": "It is rude."}, "categories": "hexphi"}}},
     ["scorers.g", "no map of shieldgemma to hexphi names rude of your criteria"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "also": ["offline-toxicity"]}}}, ["is already the scorer"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "also": ["offline-toxicty"]}}}, ["did you mean"]),
    ({"benchmarks": {"rtp": {"file": "rtp.csv", "human": "no.csv"}}}, ["benchmarks.rtp.human", "no such file"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), WRONG)
def test_mistakes_of_scorers_are_told(
    tiny_study: dict[str, Any], load: Any, change: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        load(tiny_study | change)
    assert all(part in str(error.value) for part in told), str(error.value)
    assert re.search(r"study\.yaml:|no\.yaml", str(error.value))


def test_a_wrong_scorer_is_not_told_as_unknown_too(tiny_study: dict[str, Any], load: Any) -> None:
    tiny_study["scorers"] = {"j": {"kind": "judge", "model": "m", "server": {"url": "nowhere"}}}
    tiny_study["benchmarks"]["hexphi"]["scorer"] = "j"
    with pytest.raises(UserError) as error:
        load(tiny_study)
    assert len(error.value.problems) == 1
    assert "give a URL" in str(error.value)
