"""The stage that writes what the adapters learn from."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from unharm.core.records import Example, schema_of
from unharm.core.values import VALUES
from unharm.corpus.labels import Flags, Ratings
from unharm.runs import keys
from unharm.runs.adapter_plan import AdapterPlan
from unharm.runs.context import Run


def make_examples(run: Run) -> None:
    """Write examples/ag.parquet and examples/qa.parquet (labels of all profiles), examples/<set>.parquet.

    The texts of value injection are worded when an adapter is trained: they would take the place of 154
    times the arguments.
    """
    tables = {keys.examples_artefact(run.plan, a): a for a in run.plan.trained}
    pending = {artefact: a for artefact, a in tables.items() if not run.store.done(artefact)}
    with run.progress("examples", len(tables), "tables", len(tables) - len(pending)) as progress:
        for artefact, adapter in pending.items():
            with run.journaled("examples", artefact):
                run.store.put_table(artefact, _table(run, adapter))
            progress.tick(1)


def _table(run: Run, adapter: AdapterPlan) -> pl.DataFrame:
    """Return the examples of a benign set, or the labels of all profiles in the stage of an adapter."""
    plan = run.plan
    if adapter.profile is None:
        examples = [asdict(e) for e in plan.benign(adapter.stage).examples]
        return pl.DataFrame(examples, schema=schema_of(Example))
    ids = [a.id for a in plan.arguments]
    splits = [plan.splits[i] for i in ids]
    if adapter.stage != "qa":
        fixed = {"argument": ids, "split": splits}
        labels: Flags | Ratings = plan.would_say
    else:
        places = plan.rated_pairs.arguments.tolist()
        fixed = {
            "argument": [ids[n] for n in places],
            "split": [splits[n] for n in places],
            "value": [VALUES[n] for n in plan.rated_pairs.values.tolist()],
        }
        labels = plan.ratings
    columns = {keys.label_column(p.name): labels[n] for n, p in enumerate(plan.profiles)}
    return pl.DataFrame(fixed | columns)
