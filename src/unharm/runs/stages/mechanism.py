"""The stage that measures how far every adapter moves activations along value vectors and harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch

from unharm.core.models.steering_folder import read_steering, write_steering
from unharm.core.progress import say
from unharm.runs.adapters import AdapterTask
from unharm.runs.context import Run
from unharm.runs.mechanism import (
    SHIFTS,
    direction_names,
    harm_artefact,
    harm_folder,
    harmful_prompts,
    harmless_prompts,
    held_out_texts,
    measured,
    shifts_artefact,
)
from unharm.runs.steering import stored_vectors, wording
from unharm.runs.steering_card import harm_card
from unharm.training.steering.activations import Span, residual_means
from unharm.training.steering.shifts import HeldOut, held_out, shifts_along
from unharm.training.steering.vectors import harm_direction


def make_mechanism(run: Run) -> None:
    """Write the harm direction, and a table of shifts per adapter, to mechanism/."""
    if run.study.mechanism is None or run.dry:
        return
    _make_harm_direction(run)
    pending = [task for task in measured(run) if not run.store.done(shifts_artefact(run, task))]
    if not pending:
        return
    spans = _spans(run)
    base = held_out(residual_means(run.loaded.model, spans), _directions(run))
    with run.progress("mechanism", len(pending), "adapters") as progress:
        for task in pending:
            with run.journaled("mechanism", shifts_artefact(run, task)):
                run.store.put_table(shifts_artefact(run, task), _shifts(run, task, base, spans))
            progress.tick(1)


def _make_harm_direction(run: Run) -> None:
    artefact = harm_artefact(run)
    if artefact is None:
        say("mechanism: the study has no harmful requests, so there is no harm direction")
        return
    if run.store.done(artefact):
        return
    words = wording(run)
    harmful, harmless = (
        [words.answered(run.plan.pack.fill("ask", prompt=p.text), "") for p in prompts(run, "a")]
        for prompts in (harmful_prompts, harmless_prompts)
    )

    def write(folder: Path) -> dict[str, Any]:
        direction = harm_direction(run.loaded.model, harmful, harmless)
        write_steering(folder, direction, {}, harm_card(run.base, len(harmful), len(harmless)))
        return {"harmful": len(harmful), "harmless": len(harmless)}

    with run.journaled("mechanism", artefact):
        run.store.put_folder(artefact, write, under="mechanism")


def _spans(run: Run) -> list[Span]:
    words = wording(run)
    return [words.answered(prompt, answer) for prompt, answer in held_out_texts(run)]


def _directions(run: Run) -> torch.Tensor:
    """Return the unit directions [directions, layers, hidden] in the order of `direction_names`."""
    folder = harm_folder(run)
    harm = [read_steering(folder)[None]] if folder else []
    return torch.cat([stored_vectors(run, "mean").vectors, *harm])


def _shifts(run: Run, task: AdapterTask, base: HeldOut, spans: list[Span]) -> pl.DataFrame:
    """Return the shifts of one adapter along every direction at every layer."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(run.loaded.model, run.store.locate(task.artefact)).eval()
    try:
        adapted = residual_means(model, spans, run.loaded.model)
    finally:
        model.unload()
    shift, cosine = shifts_along(base, adapted)
    rows = [
        (direction, layer, float(shift[layer, place]), float(cosine[layer, place]))
        for layer in range(len(shift))
        for place, direction in enumerate(direction_names(run))
    ]
    return pl.DataFrame(rows, schema=SHIFTS, orient="row")
