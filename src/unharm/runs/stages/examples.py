"""The stage that writes the training examples of each adapter."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from unharm.core.records import Example, schema_of
from unharm.runs import keys
from unharm.runs.context import Run


def make_examples(run: Run) -> None:
    """Write the examples of each adapter, all splits, to examples/<stage>/<profile>.parquet."""
    tasks = {keys.examples_artefact(run.plan, a): a for a in run.plan.trained}
    pending = {artefact: a for artefact, a in tasks.items() if not run.store.done(artefact)}
    with run.progress("examples", len(tasks), "sets", len(tasks) - len(pending)) as progress:
        for artefact, adapter in pending.items():
            with run.journaled("examples", artefact):
                examples = run.plan.examples(adapter)
                frame = pl.DataFrame([asdict(e) for e in examples], schema=schema_of(Example))
                run.store.put_table(artefact, frame)
            progress.tick(1)
