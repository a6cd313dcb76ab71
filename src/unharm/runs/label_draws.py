"""The labels of a run: which completions were drawn for people, and what they said."""

from __future__ import annotations

import io

import polars as pl

from unharm.analysis.human_labels import CONTENT, settled
from unharm.analysis.label_design import DRAWN_SCHEMA
from unharm.core.errors import UserError
from unharm.core.hashing import content_hash
from unharm.runs.keys import Shard
from unharm.runs.plan import Plan
from unharm.store.store import Store


def draw_file(benchmark: str) -> str:
    """The path of the stored draw of a benchmark in a run folder."""
    return f"labels/{benchmark}.csv"


def stored_draw(store: Store, benchmark: str) -> pl.DataFrame | None:
    """Return the draw of a benchmark, `DRAWN_SCHEMA`, or None if nothing was drawn.

    Raises:
        UserError: The file is damaged.
    """
    text = store.read_plain(draw_file(benchmark))
    if text is None:
        return None
    try:
        frame = pl.read_csv(io.StringIO(text), schema_overrides=DRAWN_SCHEMA).select(list(DRAWN_SCHEMA))
        right = frame.height and frame["probability"].is_between(0, 1, closed="right").all()
    except pl.exceptions.PolarsError:
        right = False
    if not right:
        raise UserError(
            "this draw of completions is damaged",
            str(store.root / draw_file(benchmark)),
            "take it from a backup; without it the labels have no inclusion probabilities",
        )
    return frame


def draw_hash(store: Store, benchmark: str) -> str:
    """Return the hash of the stored draw; empty if nothing was drawn."""
    text = store.read_plain(draw_file(benchmark))
    return "" if text is None else content_hash(text)


def settled_labels(
    plan: Plan, store: Store, benchmark: str, measure: str, shards: list[Shard]
) -> pl.DataFrame | None:
    """Return one label per labelled completion: completion_id, truth, probability (null where it was not
    drawn by `unharm labels`). None if the benchmark has no labels.

    Raises:
        UserError: Labels are of completions that are not in the run, or raters disagree and nobody
            adjudicated.
    """
    labels = plan.human_labels(benchmark)
    if labels is None:
        return None
    where = ", ".join(map(str, plan.study.benchmarks.chosen()[benchmark].label_files))
    check_ids(labels, store, benchmark, shards, where)
    drawn = stored_draw(store, benchmark)
    if drawn is None:  # only their agreement with the scorers is of interest
        means = labels.group_by("completion_id", maintain_order=True).agg(truth=pl.col("value").mean())
        return means.with_columns(probability=pl.lit(None, pl.Float64))
    files = " ".join(f"--labels {path}" for path in plan.study.benchmarks.chosen()[benchmark].label_files)
    todo = (
        f"write a sheet of them: unharm labels {store.root} --benchmark {benchmark} --disagreements "
        f"{files} --out adjudicate.csv; then name it in benchmarks.{benchmark}.human too"
    )
    truth = settled(labels, measure, where, todo)
    return truth.join(
        drawn.select("completion_id", "probability"), on="completion_id", how="left", maintain_order="left"
    )


def check_ids(labels: pl.DataFrame, store: Store, benchmark: str, shards: list[Shard], where: str) -> None:
    """Raise `UserError` if labels are of completions that a benchmark of this run does not have."""
    wanted = labels.select(pl.col("completion_id").unique(maintain_order=True))
    files = [store.scan(s.completions).select("completion_id") for s in shards if s.benchmark == benchmark]
    known = pl.concat(files) if files else pl.LazyFrame(schema={"completion_id": pl.String})
    unknown = wanted.lazy().join(known, on="completion_id", how="anti").collect()["completion_id"]
    if not len(unknown):
        return
    if len(unknown) == wanted.height:
        message = f"{CONTENT}: none of these completions is in this run: they are of another study"
    else:
        shown = ", ".join(repr(c) for c in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        message = f"{CONTENT}: {len(unknown)} of {wanted.height} completions are not in this run ({shown})"
    raise UserError(
        message,
        where,
        f"the run's own sheet: unharm labels {store.root} --benchmark {benchmark} --out FILE",
    )
