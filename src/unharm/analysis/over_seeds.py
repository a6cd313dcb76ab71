"""Tables of subjects averaged over training seeds, for what counts profiles and not adapters."""

from __future__ import annotations

import polars as pl

from unharm.analysis.alignment import TOOK
from unharm.analysis.schemas import ALIGNMENT_SCHEMA

SAME = ("arm", "profile", "strategy", "reading")
BOUNDS = ("low", "high")


def alignment_over_seeds(alignment: pl.DataFrame) -> pl.DataFrame:
    """Return one row per arm, profile, strategy and reading: the means over training seeds.

    Where there are several seeds, a mean has no interval (the errors of ten values are not those of
    seeds), the verdict is `took` only if every seed took, else the first other one, and the own target
    counts as retrieved only if every seed retrieves it. Rows of a single seed stay as they are.
    """
    if alignment["seed"].drop_nulls().n_unique() < 2:
        return alignment
    parts = []
    for _, part in alignment.group_by(SAME, maintain_order=True):
        if part.height == 1:
            parts.append(part)
            continue
        numbers = [n for n, kind in ALIGNMENT_SCHEMA.items() if kind == pl.Float64 and n not in BOUNDS]
        others = part["verdict"].filter(part["verdict"] != TOOK)
        parts.append(
            part.head(1).with_columns(
                *(pl.lit(part[n].mean(), pl.Float64).alias(n) for n in numbers),
                *(pl.lit(None, pl.Float64).alias(n) for n in BOUNDS),
                seed=pl.lit(None, pl.Int64),
                unscored=pl.lit(int(part["unscored"].sum()), pl.Int64),
                retrieved=pl.lit(
                    part["retrieved"].all() if part["retrieved"].count() else None, pl.Boolean
                ),
                verdict=pl.lit(others[0] if len(others) else TOOK),
            )
        )
    return pl.concat(parts)
