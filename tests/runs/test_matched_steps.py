"""Benign arms with as many optimiser steps as value injection."""

from __future__ import annotations

from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.runs import keys
from unharm.runs.plan import Plan
from unharm.runs.planning.summary import summary_of

UNEQUAL = "benign:grammar is trained for"


def changed(data: dict[str, Any], arms: list[str], **benign: Any) -> dict[str, Any]:
    training = {
        "vim": {"lr": 5e-3, "epochs": 4, "batch": 4},
        "benign": {"batch": 4, "accumulate": 1} | benign,
    }
    return data | {"arms": arms, "training": training}


def test_a_control_with_few_steps_is_warned_of_and_can_be_matched(
    tiny_study: dict[str, Any], load: Any
) -> None:
    arms = ["vanilla", "vim", "benign:grammar"]
    unequal, matched = (Plan(load(changed(tiny_study, arms, **b))) for b in ({}, {"match": "steps"}))
    assert unequal.steps_by_arm["benign:grammar"] < unequal.steps_by_arm["vim"] / 2
    assert any(note.startswith(UNEQUAL) for note in summary_of(unequal).notes)
    assert not any(note.startswith(UNEQUAL) for note in summary_of(matched).notes)
    steps = matched.steps_by_arm
    per_epoch = unequal.steps_by_arm["benign:grammar"]
    assert abs(steps["benign:grammar"] - steps["vim"]) <= per_epoch / 2
    (adapter,) = (a for a in matched.adapters if a.arm == "benign:grammar")
    epochs = matched.recipe(adapter).epochs
    written = Plan(load(changed(tiny_study, arms, epochs=epochs)))
    assert keys.adapter_artefact(matched, adapter, "b") == keys.adapter_artefact(written, adapter, "b")


def test_what_cannot_be_matched_is_an_error(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError, match="no value-injected arm whose steps"):
        load(changed(tiny_study, ["vanilla", "benign:grammar"], match="steps"))
    with pytest.raises(UserError, match="give either 'match' or 'keep'"):
        load(changed(tiny_study, ["vanilla", "vim", "benign:grammar"], match="steps", keep=[1]))
