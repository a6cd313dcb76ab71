"""Settings of value vectors, of the arms that steer by them, and of the mechanism tables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unharm.core.spec import Count, Spec

Layer = Annotated[int, Field(ge=0)]
Strength = Annotated[float, Field(gt=0, le=100)]


class Steering(Spec):
    """How value vectors are made, and how layer and strength of the steer arms are chosen.

    A strength is relative: 1 adds, for a value alone at full weight, as much as the residual stream is long
    on average.
    """

    arguments: Count = Field(
        400, description="most arguments of the training split that vectors are made of"
    )
    layers: Literal["auto"] | Annotated[list[Layer], Field(min_length=1)] = Field(
        "auto", description="layers to try, from 0; auto: at one, two and three quarters of the depth"
    )
    strengths: Annotated[list[Strength], Field(min_length=1)] = [0.1, 0.2, 0.4, 0.8]
    most_perplexity: Annotated[float, Field(gt=1)] = Field(
        1.5, description="largest perplexity of neutral text, in multiples of the base's"
    )
    profiles: Count = Field(4, description="most profiles that layer and strength are chosen on")
    statements: Count = Field(40, description="most statements of the validation split that are rated")
    texts: Count = Field(20, description="most neutral texts whose perplexity is read")


class Mechanism(Spec):
    """What the mechanism tables are made of."""

    texts: Count = Field(120, description="most held-out texts on which activations are compared")
    level: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01, description="family-wise error at which a direction is named for a harm"
    )
