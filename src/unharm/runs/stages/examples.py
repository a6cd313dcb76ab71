"""The stage that writes what each adapter learns from."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from unharm.core.records import Example, schema_of
from unharm.runs import keys
from unharm.runs.context import Run


def make_examples(run: Run) -> None:
    """examples/<stage>/<profile>.parquet: what each adapter learns, with its split."""
    tasks = {keys.examples_artefact(run.plan, a): a for a in run.plan.trained}
    pending = {artefact: a for artefact, a in tasks.items() if not run.store.done(artefact)}
    with run.progress("examples", len(tasks), "sets", len(tasks) - len(pending)) as progress:
        for artefact, adapter in pending.items():
            with run.recorded("examples", artefact):
                examples = run.plan.examples(adapter)
                frame = pl.DataFrame([asdict(e) for e in examples], schema=schema_of(Example))
                run.store.put_table(artefact, frame)
            progress.tick(1)
