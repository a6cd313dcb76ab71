"""Tests of `unharm.analysis.over_seeds`."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.over_seeds import alignment_over_seeds
from unharm.analysis.schemas import ALIGNMENT_SCHEMA


def row(**changed: Any) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(ALIGNMENT_SCHEMA)
    fixed = {"arm": "vim", "profile": "power", "strategy": "input-only", "reading": "text", "unscored": 1}
    return columns | fixed | {"verdict": "took", "retrieved": True, "low": 0.0, "high": 1.0} | changed


def test_a_profile_has_the_mean_over_its_seeds() -> None:
    rows = [
        row(seed=1, value=0.1, skill=0.4),
        row(seed=2, value=0.3, skill=0.2, verdict="partly", retrieved=False),
        row(seed=1, profile="security", value=0.2),
        row(arm="vanilla", value=0.5),
    ]
    table = pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA)
    power, security, vanilla = alignment_over_seeds(table).to_dicts()
    assert (power["value"], power["skill"]) == (0.2, 0.30000000000000004)
    assert (power["verdict"], power["retrieved"], power["low"], power["unscored"]) == (
        "partly",
        False,
        None,
        2,
    )
    assert (security["value"], security["seed"], security["high"]) == (0.2, 1, 1.0)
    assert vanilla == rows[3]


def test_a_table_of_one_seed_stays_as_it_is() -> None:
    table = pl.DataFrame([row(seed=3, value=0.1), row(arm="vanilla", value=0.5)], schema=ALIGNMENT_SCHEMA)
    assert alignment_over_seeds(table).equals(table)
