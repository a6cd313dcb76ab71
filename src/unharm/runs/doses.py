"""Doses of adapters: what is left to do for them when the full adapters are there.

Kept epochs are stored while their adapter is trained (`stages/training_session.py`). An adapter multiplied
by a factor is a PEFT folder with the same weights and another `lora_alpha`, so that every engine and every
other program loads it as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.models.peft_folder import CONFIG, WEIGHTS, configuration, scaled_configuration
from unharm.runs.adapters import (
    AdapterTask,
    adapter_tasks,
    failed_temporarily,
    failure_reason,
    record_failure,
)
from unharm.runs.context import Run

DESCRIPTION = ("stage", "examples", "left_out_too_long", "valid_loss", "best_epoch", "source")
"""What the marker of a full adapter says of its training, and that of its multiple too."""


def make_doses(run: Run) -> None:
    """Write the adapters multiplied by a factor. A dose whose full adapter failed fails with it."""
    for task in adapter_tasks(run).doses:
        full, dose = task.full, task.plan.dose
        if full is None or dose is None:
            continue
        if run.store.done(task.artefact) or failure_reason(run, task):
            continue
        if reason := failure_reason(run, full):
            record_failure(run, task, reason, failed_temporarily(run, full))
        elif dose.scale is not None and run.store.done(full.artefact):
            with run.journaled("adapters", task.artefact):
                _store_scaled(run, task, full, dose.scale)


def _store_scaled(run: Run, task: AdapterTask, full: AdapterTask, scale: float) -> None:
    """Store an adapter multiplied by a factor. Its weights are a hard link where the disk has them."""
    source = run.store.locate(full.artefact)
    marker = run.store.marker(full.artefact) or {}

    def write(folder: Path) -> dict[str, Any]:
        config = configuration(source)
        if run.dry is None:
            try:
                config = scaled_configuration(config, scale)
            except ValueError as error:
                raise UserError(
                    f"this adapter cannot be multiplied: {error}", task.label, "leave its scale out"
                ) from None
            _link(source / WEIGHTS, folder / WEIGHTS)
        else:
            config |= {"scale": scale}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        about = {name: marker[name] for name in DESCRIPTION if name in marker}
        return {**about, "scale": scale}

    run.store.put_folder(task.artefact, write, under="adapters")


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
