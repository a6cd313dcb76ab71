"""Simulated profiles, cells and harms."""

from __future__ import annotations

import numpy as np
import polars as pl

from unharm.analysis.associations import (
    Harms,
)
from unharm.analysis.comparisons import Cells
from unharm.core.records import Profile, Subject
from unharm.profiles.extreme import extreme

SCORER = {"scorer": "s", "scorer_version": "1", "stand_in": False}


def people(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 6, (count, 10))


def cells_of(arms: dict[str, dict[str, list[float]]], categories: list[str]) -> Cells:
    """Cells of HEx-PHI: by arm, the profiles with their harmfulness of each prompt."""
    cells = Cells()
    cells.scorers["hexphi"] = SCORER
    for arm, several in arms.items():
        for name, values in several.items():
            profile = Profile(name, extreme("power").importances) if name else None
            frame = pl.DataFrame(
                {"id": [f"p{n}" for n in range(len(values))], "category": categories, "value": values}
            )
            cells.add(Subject(arm, profile, "input-only"), "hexphi", "harmfulness", frame)
    return cells


def harms_of(values: np.ndarray, importances: np.ndarray, *categories: str) -> Harms:
    about = [
        {"benchmark": "hexphi", "category": c, "metric": "harmfulness", **SCORER, "unscored": 0}
        for c in categories
    ]
    return Harms("vim", "input-only", importances, values, about)
