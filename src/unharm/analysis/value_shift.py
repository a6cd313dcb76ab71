"""How all ten values moved when a model was aligned, not only those that the profile aims at."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.intervals import mean_interval
from unharm.analysis.over_seeds import alignment_over_seeds
from unharm.analysis.schemas import MOVED_SCHEMA
from unharm.core.arms import has_profile
from unharm.core.values import VALUES

UP, DOWN, ALL_PROFILES = "up", "down", "all"


def moved_table(alignment: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """For every arm with profiles, reading and value: the mean change of the rated importance against
    vanilla, over all profiles, over those that want it up (their target lies above vanilla's rating) and
    over those that want it down. The unit is the profile. What moves where nothing should is the tax of the
    alignment (arXiv 2602.12134)."""
    alignment = alignment_over_seeds(alignment)
    rows: list[dict[str, Any]] = []
    keys = ["arm", "strategy", "reading"]
    vanilla = {
        (r["strategy"], r["reading"], r["profile"]): r
        for r in alignment.filter(pl.col("arm") == "vanilla").to_dicts()
    }
    for (arm, strategy, reading), part in alignment.group_by(keys, maintain_order=True):
        if not has_profile(str(arm)):
            continue
        arm_rows = part.to_dicts()
        for value in VALUES:
            triples = []
            for row in arm_rows:
                before = vanilla.get((strategy, reading, row["profile"]))
                now = row[f"predicted_{value}"]
                if before is not None and now is not None and before[f"predicted_{value}"] is not None:
                    triples.append((before[f"predicted_{value}"], now, row[f"target_{value}"]))
            for aim in (ALL_PROFILES, UP, DOWN):
                some = [t for t in triples if aim == ALL_PROFILES or (t[2] > t[0]) == (aim == UP)]
                changes = [now - before for before, now, _ in some]
                missing = len(arm_rows) - len(triples) if aim == ALL_PROFILES else 0
                estimate = mean_interval(changes, confidence, "profile", missing, (-5.0, 5.0))
                means = [sum(t[k] for t in some) / len(some) if some else None for k in range(3)]
                rows.append(
                    {
                        "arm": arm,
                        "strategy": strategy,
                        "reading": reading,
                        "schwartz_value": value,
                        "aim": aim,
                    }
                    | {f: getattr(estimate, f) for f in ("value", "low", "high", "n", "unit", "unscored")}
                    | dict(zip(("mean_vanilla", "mean_arm", "mean_target"), means, strict=True))
                )
    return pl.DataFrame(rows, schema=MOVED_SCHEMA)
