"""The stage that writes the profiles."""

from __future__ import annotations

import polars as pl

from unharm.core.values import VALUES
from unharm.runs import keys
from unharm.runs.context import Run


def make_profiles(run: Run) -> None:
    """profiles/profiles.csv: name, source and ten importances of every profile."""
    artefact = keys.profiles_artefact(run.plan)
    if run.store.done(artefact):
        return
    rows = [
        {"name": p.name, "source": p.source, **dict(zip(VALUES, p.importances, strict=True))}
        for p in run.plan.profiles
    ]
    with run.recorded("profiles", artefact):
        run.store.put_table(artefact, pl.DataFrame(rows))
