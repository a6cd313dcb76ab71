"""The training of a run, also while it goes on: the losses of every adapter and where the run stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unharm.core.errors import UserError
from unharm.runs.adapters import AdapterTask, adapter_tasks, failure_reason
from unharm.runs.context import Run
from unharm.runs.status import RunStatus, status
from unharm.training.live_curves import curves_in_training
from unharm.view.charts import COLOURS, Line

DRAWN = 5 * COLOURS
"""Largest number of adapters of a group that are drawn."""


@dataclass(frozen=True)
class Progress:
    """The training of one adapter: (steps, loss) by tenth of an epoch, and after each epoch.

    `state` is `done`, `training`, `begun` where it is not whole and the run does not go on, `waiting`, or
    why it failed.
    """

    task: AdapterTask
    state: str
    train: list[tuple[float, float]] = field(default_factory=list)
    valid: list[tuple[float, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Profile and seed, or the arm where it has no profile."""
        plan = self.task.plan
        seed = "" if plan.seed is None else f"seed {plan.seed}"
        return " · ".join(filter(None, (plan.profile_name, seed))) or plan.arm


def training_of(run: Run, current: RunStatus | None) -> dict[str, list[Progress]]:
    """Return the training of all adapters, grouped by arm and stage.

    Args:
        run: The run.
        current: Its status; None where it has none.
    """
    curves = curves_in_training(run.store)
    goes_on = current is not None and current.state == "running"
    now = set(current.now) if current else set()
    groups: dict[str, list[Progress]] = {}
    for task in adapter_tasks(run).trained:
        marker = run.store.marker(task.artefact)
        curve = curves.get(task.key)
        if marker is not None:
            valid = zip(marker["epoch_steps"], marker["valid_loss"], strict=False)
            progress = Progress(task, "done", _points(marker["train_loss"]), _points(valid))
        elif reason := failure_reason(run, task):
            progress = Progress(task, reason)
        elif curve is not None:
            progress = Progress(task, "training" if goes_on else "begun", curve.train, curve.valid)
        elif f"adapters: {task.artefact.path}" in now:  # before its first point
            progress = Progress(task, "training")
        else:
            progress = Progress(task, "waiting")
        groups.setdefault(f"{task.plan.arm} · {task.plan.stage}", []).append(progress)
    return groups


def charts_of(adapters: Sequence[Progress]) -> list[list[Line]]:
    """Return the lines of the charts of a group: up to `COLOURS` adapters each, so that colours differ.

    An adapter has the training loss, and in the same colour, dashed, the validation loss.
    """
    drawn = [a for a in adapters if a.train or a.valid][:DRAWN]
    charts = []
    for first in range(0, len(drawn), COLOURS):
        lines = []
        for colour, adapter in enumerate(drawn[first : first + COLOURS]):
            lines.append(Line(f"{adapter.name}: training", adapter.train, colour))
            lines.append(Line(f"{adapter.name}: validation", adapter.valid, colour, dashed=True))
        charts.append(lines)
    return charts


def status_of(folder: str) -> RunStatus | None:
    """Return the status of a run; None where it has no status file."""
    try:
        return status(folder)
    except UserError:
        return None


def _points(pairs: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in pairs]
