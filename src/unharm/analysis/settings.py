"""The part of the spec that says how findings are made."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
)

from unharm.core.spec import Positive, Spec, unique


def unique_numbers(numbers: list[int]) -> list[int]:
    unique([str(n) for n in numbers])
    return numbers


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
