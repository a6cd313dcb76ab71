"""How far the loss of adapters fell in training, and which of them hardly learned anything.

The published rate (2e-5) with a small corpus leaves a model as it was: a study of such adapters measures
the base. So the report names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import polars as pl

from unharm.training.state import CURVE_POINTS

LEAST_FALL = 0.05
"""A training loss that falls by less than this share is hardly any training."""


@dataclass(frozen=True)
class LossFall:
    """The training of one arm and stage.

    Attributes:
        arm: The arm.
        stage: The training stage, or the benign set.
        adapters: Number of adapters with a curve.
        hardly: How many of them have a loss that fell by less than `LEAST_FALL`.
        steps: Their median number of optimiser steps.
        fall: The median share by which their loss fell; negative where it rose.
    """

    arm: str
    stage: str
    adapters: int
    hardly: int
    steps: int
    fall: float

    @property
    def sentence(self) -> str:
        """The finding and what to do, as one sentence."""
        which = "" if self.hardly == self.adapters else f" ({self.hardly} of {self.adapters} adapters)"
        section = "vim" if self.stage in ("ag", "qa") else "benign"
        change = f"{-100 * self.fall:+.0f} %".replace("-", "−")
        return (
            f"{self.arm}, stage {self.stage}: hardly trained{which}: {self.steps:,} steps, loss {change}; "
            f"raise training.{section}.lr or training.{section}.epochs"
        )


def hardly_trained(curves: pl.DataFrame) -> list[LossFall]:
    """Return the arms and stages with adapters that hardly learned, from the table adapters/curves.csv.

    The fall compares the first point of the training curve with the mean of the points of the last epoch.
    """
    falls_of_arms: list[LossFall] = []
    train = curves.filter(pl.col("curve") == "train")
    for (arm, stage), group in train.group_by(["arm", "stage"], maintain_order=True):
        falls = [fall_of(part) for _, part in group.group_by("profile", maintain_order=True)]
        hardly = [(steps, fall) for steps, fall in falls if fall < LEAST_FALL]
        if hardly:
            steps, fall = (median(column) for column in zip(*hardly, strict=True))
            falls_of_arms.append(
                LossFall(str(arm), str(stage), len(falls), len(hardly), round(steps), fall)
            )
    return falls_of_arms


def fall_of(curve: pl.DataFrame) -> tuple[int, float]:
    """Return the steps of one training curve, and the share by which its loss fell."""
    ordered = curve.sort("steps")
    steps = int(ordered["steps"].max())  # type: ignore[arg-type]
    return steps, fall(ordered.select("steps", "loss").rows(), steps)


def fall(points: Sequence[tuple[int, float]], steps: int) -> float:
    """Return the share by which a training loss fell in its first `steps` optimiser steps.

    The first point of the curve is compared with the mean of its last ten up to there, those of an epoch,
    or with the last one alone where there are no more than ten.

    Args:
        points: Pairs of the optimiser steps done and the mean loss since the pair before, in their order.
        steps: Optimiser steps.
    """
    losses = [loss for done, loss in points if done <= steps]
    if not losses or not losses[0]:
        return 0.0
    last = losses[-CURVE_POINTS:] if len(losses) > CURVE_POINTS else losses[-1:]
    return 1 - sum(last) / len(last) / losses[0]
