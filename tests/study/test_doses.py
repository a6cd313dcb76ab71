"""Tests of `unharm.study.doses`."""

from __future__ import annotations

from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.study.doses import without_doses


def with_doses(data: dict[str, Any]) -> dict[str, Any]:
    training = data["training"] | {"vim": data["training"]["vim"] | {"epochs": 3, "keep": [1, 3]}}
    return data | {"training": training, "doses": {"scale": [0.5, 1, 1.5]}}


def test_doses_become_arms_beside_the_full_one(tiny_study: dict[str, Any], load: Any) -> None:
    study = load(with_doses(tiny_study) | {"arms": ["vanilla", "icl", "vim", "benign:grammar"]})
    assert study.arms == [
        "vanilla", "icl", "vim", "vim@epoch1", "vim@epoch3", "vim@0.5", "vim@1.5", "benign:grammar",
        "benign:grammar@0.5", "benign:grammar@1.5",
    ]  # fmt: skip
    assert load(study.model_dump(mode="json")).arms == study.arms


def test_arms_with_a_guard_have_only_the_doses_that_are_named(
    tiny_study: dict[str, Any], load: Any
) -> None:
    study = load(with_doses(tiny_study) | {"arms": ["vanilla", "vim+inoculate", "vim+inoculate@epoch3"]})
    assert study.arms == ["vanilla", "vim+inoculate", "vim+inoculate@epoch3"]


def test_doses_that_are_written_as_arms_stay_where_they_are(tiny_study: dict[str, Any], load: Any) -> None:
    study = load(with_doses(tiny_study) | {"arms": ["vim@1.5", "vanilla", "vim"]})
    assert study.arms == ["vim@1.5", "vanilla", "vim", "vim@epoch1", "vim@epoch3", "vim@0.5"]
    alone = load(without_doses(study.model_dump(mode="json")) | {"arms": ["vanilla", "vim@epoch1"]})
    assert alone.arms == ["vanilla", "vim@epoch1"]


@pytest.mark.parametrize(
    ("changes", "message", "field"),
    [
        ({"arms": ["vanilla", "vim@0.50"]}, "'vim@0.50' is not how this dose is written", "arms.1"),
        ({"arms": ["vanilla", "vim@1"]}, "at most 100 and not 1", "arms.1"),
        ({"arms": ["vanilla", "vim@0"]}, "must be above 0", "arms.1"),
        ({"arms": ["vanilla@0.5"]}, "the arm 'vanilla' has no adapter", "arms.0"),
        ({"arms": ["icl@epoch1"]}, "the arm 'icl' has no adapter", "arms.0"),
        ({"arms": ["vim@epoch2"]}, "training ends after 1 epochs", "arms.0"),
        ({"arms": ["vim@epoch1@0.5"]}, "unknown name", "arms.0"),
        ({"doses": {"scale": [0.5, 0.5]}}, "given twice", "doses.scale"),
        ({"doses": {"scale": [0]}}, "greater than 0", "doses.scale.0"),
        ({"doses": {"scale": [0.1234567]}}, "at most six decimals", "doses.scale"),
        ({"training": {"vim": {"epochs": 3, "keep": [3, 1]}}}, "in rising order", "training.vim.keep"),
        (
            {"training": {"vim": {"epochs": 3, "keep": [4]}}},
            "give epochs of 'keep' up to 3",
            "training.vim",
        ),
        (
            {"arms": ["vanilla", "adapter:x@2"], "adapters": {"x@2": "somewhere"}},
            "the name 'x@2' ends like a dose",
            "adapters.x@2",
        ),
    ],
)
def test_wrong_doses_are_named(
    tiny_study: dict[str, Any], load: Any, changes: dict[str, Any], message: str, field: str
) -> None:
    with pytest.raises(UserError) as error:
        load(tiny_study | changes)
    assert any(message in p.message and field in p.where for p in error.value.problems), str(error.value)
