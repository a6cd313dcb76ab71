"""Tests of `unharm.training.step_balance`."""

from __future__ import annotations

from unharm.training.step_balance import unequal_steps


def test_a_control_with_far_other_steps_is_named() -> None:
    steps = {"benign:grammar": 2, "vim": 120, "vim-ag": 60, "benign:dolly": 300, "benign:samsum": 100}
    few, many = unequal_steps(steps)
    assert few.startswith(
        "benign:grammar is trained for 2 optimiser steps and vim for 120: with so many fewer"
    )
    assert many.startswith(
        "benign:dolly is trained for 300 optimiser steps and vim for 120: with so many more"
    )


def test_without_a_value_injected_arm_there_is_nothing_to_match() -> None:
    assert unequal_steps({"benign:grammar": 2}) == []
    assert unequal_steps({"vim": 10, "benign:grammar": 5}) == []
