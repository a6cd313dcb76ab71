"""Whether arms that are compared were trained for a like number of steps."""

from __future__ import annotations

from collections.abc import Mapping

from unharm.core.arms import benign_set, vim_stages

FEWEST, MOST = 0.5, 2.0
"""A control with fewer or more of the steps of the value-injected arm than this is no equal of it."""


def unequal_steps(steps: Mapping[str, int]) -> list[str]:
    """Return a sentence for each benign arm that is trained for far fewer or far more steps.

    Args:
        steps: The optimiser steps of every trained arm, over all its stages.
    """
    injected = next((arm for arm in steps if vim_stages(arm)), None)
    if injected is None:
        return []
    sentences = []
    for arm, count in steps.items():
        if not benign_set(arm) or FEWEST <= count / max(1, steps[injected]) <= MOST:
            continue
        far = "fewer" if count < steps[injected] else "more"
        sentences.append(
            f"{arm} is trained for {count:,} optimiser steps and {injected} for {steps[injected]:,}: with "
            f"so many {far} it is no control of training itself; set training.benign.match: steps"
        )
    return sentences
