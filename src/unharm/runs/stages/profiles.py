"""The stage that writes the profiles."""

from __future__ import annotations

import polars as pl

from unharm.core.values import VALUES
from unharm.runs import keys
from unharm.runs.context import Run


def make_profiles(run: Run) -> None:
    """Write name, source and ten importances of every profile to profiles/profiles.csv."""
    artefact = keys.profiles_artefact(run.plan)
    if run.store.done(artefact):
        return
    rows = [
        {"name": p.name, "source": p.source, **dict(zip(VALUES, p.importances, strict=True))}
        for p in run.plan.profiles
    ]
    with run.journaled("profiles", artefact):
        run.store.put_table(artefact, pl.DataFrame(rows))
