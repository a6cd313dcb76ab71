"""The adapters of a study in its run folder: their data, failures, curves, and copies of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from unharm import keys
from unharm.errors import UserError
from unharm.naming import content_key
from unharm.plan import AdapterPlan
from unharm.records import Subject
from unharm.store import Artefact
from unharm.training.export import ADAPTER_FILES

if TYPE_CHECKING:
    from unharm.pipeline import Run

CURVES: dict[str, Any] = {
    "arm": pl.String,
    "stage": pl.String,
    "profile": pl.String,
    "best_epoch": pl.Int64,
    "curve": pl.String,
    "steps": pl.Int64,
    "loss": pl.Float64,
}
"""Mean loss in nats per label token since the point before (`train`) or after an epoch (`valid`)."""


def failure(run: Run, adapter: AdapterPlan) -> str:
    """Why an adapter, or the one it starts from, could not be trained; empty where nothing is wrong."""
    artefact = failed_artefact(run, adapter)
    text = run.store.read_plain(artefact.path) if run.store.done(artefact) else None
    return str(json.loads(text)["why"]) if text else ""


def fail(run: Run, adapter: AdapterPlan, why: str, again: bool = False) -> None:
    """Records why an adapter is left out of the study; `again`: the next run tries it once more."""
    about = {"arm": adapter.arm, "profile": adapter.profile_name, "why": why, "again": again}
    run.store.put_text(failed_artefact(run, adapter), json.dumps(about))


def will_be_tried_again(run: Run, adapter: AdapterPlan) -> bool:
    """Whether an adapter failed by an error that says nothing of the adapter: the next run tries it
    again."""
    text = run.store.read_plain(failed_artefact(run, adapter).path)
    return bool(text and json.loads(text).get("again"))


def forget_fault(run: Run, adapter: AdapterPlan) -> None:
    """An adapter that failed in an earlier run by such an error is as if it had not been tried."""
    artefact = failed_artefact(run, adapter)
    if run.store.done(artefact) and will_be_tried_again(run, adapter):
        run.store.remove(artefact)


def failed_artefact(run: Run, adapter: AdapterPlan) -> Artefact:
    artefact = keys.adapter_artefact(run.plan, adapter, run.base.key)
    return Artefact(f"failed/{artefact.path}.json", artefact.key)


def examples_of(run: Run, adapter: AdapterPlan, split: str) -> pl.LazyFrame:
    frame = run.store.scan(keys.examples_artefact(run.plan, adapter))
    return frame.filter(pl.col("split") == split)


def take_up(run: Run, adapter: AdapterPlan) -> None:
    """Copies an adapter made elsewhere into the run, so that the run has all that it needs."""
    artefact = keys.adapter_artefact(run.plan, adapter, run.base.key)
    if run.store.done(artefact):
        return
    source, _ = run.plan.own_adapter(adapter.stage)

    def copy(folder: Path) -> dict[str, Any]:
        for name in ADAPTER_FILES:
            shutil.copyfile(source / name, folder / name)
        return {"source": adapter.source, "left_out_too_long": 0}

    with run.recorded("adapters", artefact):
        run.store.put_folder(artefact, copy, under="adapters")


def adapter_folder(run: Run, subject: Subject) -> Path | None:
    """Where the adapter of a subject lies in the run; None where it has none."""
    adapter = run.plan.adapter_of(subject)
    return run.store.locate(keys.adapter_artefact(run.plan, adapter, run.base.key)) if adapter else None


def curves_artefact(run: Run) -> Artefact:
    """adapters/curves.csv: the losses of every adapter that this study trains."""
    made = [keys.adapter_artefact(run.plan, a, run.base.key).key for a in run.plan.trained]
    whys = [failure(run, a) for a in run.plan.trained]
    return Artefact(
        "adapters/curves.csv", content_key("curves", keys.VERSIONS["adapters"], {}, *made, *whys)
    )


def write_curves(run: Run) -> None:
    artefact = curves_artefact(run)
    if not run.plan.trained or run.store.done(artefact):
        return
    rows = []
    for adapter in run.plan.trained:
        marker = run.store.marker(keys.adapter_artefact(run.plan, adapter, run.base.key))
        if marker is None:
            continue
        about = {"arm": adapter.arm, "stage": adapter.stage, "profile": adapter.profile_name}
        about |= {"best_epoch": marker["best_epoch"]}
        rows += [{**about, "curve": "train", "steps": s, "loss": x} for s, x in marker["train_loss"]]
        valid = zip(marker["epoch_steps"], marker["valid_loss"], strict=False)
        rows += [{**about, "curve": "valid", "steps": s, "loss": x} for s, x in valid]
    run.store.put_table(artefact, pl.DataFrame(rows, schema=CURVES))


def export_adapters(run: Run, folder: Path) -> list[Path]:
    """Copies the study's own adapters, named by arm, profile and content, with model cards.

    Raises `UserError` where the folder cannot be written.
    """
    from unharm.training.card import model_card

    made = []
    for adapter in run.plan.trained:
        marker = run.store.marker(keys.adapter_artefact(run.plan, adapter, run.base.key))
        if marker is None:
            continue
        source = run.store.root / str(marker["path"])
        target = folder / f"{keys.folder(adapter.arm, adapter.profile_name)}--{source.name[:12]}"
        try:
            shutil.copytree(source, target, dirs_exist_ok=True)
            card = model_card(marker, run.study, run.plan.recipe(adapter), run.base, adapter.profile)
            (target / "README.md").write_text(card, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write here: {error.strerror or error}", str(target), "") from None
        made.append(target)
    return made
