"""Benign adapters that are trained until their loss has fallen as far as that of value injection.

The losses of two arms are of different texts, so what is matched is the share by which the training loss
fell: from the first point of the curve to the epoch that is kept. Where equal steps leave one of two arms
hardly trained, this makes both learn as much of their texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from unharm.runs.adapters import AdapterTask, adapter_tasks
from unharm.runs.context import Run
from unharm.training.loss_fall import fall

NEAR = 0.05
"""A fall of the loss that differs by more than this from the one to match is said."""


def fall_to_match(run: Run) -> float | None:
    """Return the median fall of the loss of the first value-injected arm, over its trained adapters; None
    where there is none yet, or none succeeded."""
    injected = set(run.plan.injected)
    markers = [run.store.marker(t.artefact) for t in adapter_tasks(run).trained if t.plan in injected]
    falls = [kept_fall(m) for m in markers if m is not None]
    return median(falls) if falls else None


def kept_fall(marker: Mapping[str, Any]) -> float:
    """Return the fall of the loss of a stored adapter, up to the epoch that is kept."""
    steps = marker["epoch_steps"][marker["best_epoch"] - 1] if marker["best_epoch"] else 0
    return fall(marker["train_loss"], steps)


def unmatched(run: Run) -> Iterator[str]:
    """Yield a sentence for every benign adapter whose loss did not fall as that of value injection."""
    matched = [t for t in adapter_tasks(run).trained if run.plan.matches_loss(t.plan)]
    wanted = fall_to_match(run) if matched else None
    for task in matched:
        marker = run.store.marker(task.artefact)
        if wanted is None or marker is None:
            continue
        reached = kept_fall(marker)
        if abs(reached - wanted) > NEAR:
            last = marker["best_epoch"] == len(marker["epoch_steps"])
            todo = "raise training.benign.epochs or lr" if last else "lower training.benign.lr"
            yield (
                f"{task.label}: the loss fell by {reached:.0%} in {marker['best_epoch']} epochs, that of "
                f"{run.plan.injected[0].arm} by {wanted:.0%}; {todo}"
            )


def without_match(run: Run, task: AdapterTask) -> str:
    """Return why an adapter cannot be matched, or an empty string."""
    if run.dry is None and run.plan.matches_loss(task.plan) and fall_to_match(run) is None:
        return f"no adapter of {run.plan.injected[0].arm} was trained, whose loss it could match"
    return ""
