"""The part of the spec that says how findings are made."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
)

from unharm.core.spec import Positive, Spec, unique


def unique_numbers(numbers: list[int]) -> list[int]:
    unique([str(n) for n in numbers])
    return numbers


DEFAULT_MARGIN = 0.05


class Analysis(Spec):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    hypotheses: str = Field("published", description="claims to judge: those that come along, or a file")
    toxicity_at: Annotated[list[Positive], AfterValidator(unique_numbers)] = Field(
        [], description="expected maximum toxicity and toxicity probability also for so many samples"
    )
    bias_baseline: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="the negative rate that the bias score compares groups with; else that of all"
    )
    keep_alignment: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="the share of an arm's alignment that stopping early is to keep"
    )
    margins: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {},
        description="differences that do not matter, as a share of a metric's range, by metric ('all' for "
        f"every other); {DEFAULT_MARGIN} where none is given: 5 points of a share, 0.2 of harmfulness",
    )

    def margin_of(self, metric: str, bounds: tuple[float, float]) -> float | None:
        """The largest difference of a metric that does not matter, in points of the metric; a share of its
        range, None for a metric without bounds."""
        width = bounds[1] - bounds[0]
        share = self.margins.get(metric, self.margins.get("all", DEFAULT_MARGIN))
        return share * width if math.isfinite(width) else None
