"""The training of a run, also while it goes on: the losses of every adapter and where the run stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unharm.core.errors import UserError
from unharm.runs.adapters import AdapterTask, adapter_tasks, failure_reason
from unharm.runs.context import Run
from unharm.runs.status import RunStatus, status
from unharm.training.checkpoints import checkpointed_curves
from unharm.view.charts import Line

DRAWN = 40
"""Largest number of adapters in one chart."""


@dataclass(frozen=True)
class Progress:
    """The training of one adapter: (steps, loss) by tenth of an epoch, and after each epoch.

    `state` is `done`, `training` (as of its last checkpoint), `waiting`, or why it failed.
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


def training_of(run: Run) -> dict[str, list[Progress]]:
    """Return the training of all adapters, grouped by arm and stage."""
    open_curves = checkpointed_curves(run.store)
    groups: dict[str, list[Progress]] = {}
    for task in adapter_tasks(run).trained:
        marker = run.store.marker(task.artefact)
        curve = open_curves.get(task.key)
        if marker is not None:
            valid = zip(marker["epoch_steps"], marker["valid_loss"], strict=False)
            progress = Progress(task, "done", _points(marker["train_loss"]), _points(valid))
        elif reason := failure_reason(run, task):
            progress = Progress(task, reason)
        elif curve is not None:
            progress = Progress(task, "training", _points(curve.train))
        else:
            progress = Progress(task, "waiting")
        groups.setdefault(f"{task.plan.arm} · {task.plan.stage}", []).append(progress)
    return groups


def lines_of(adapters: Sequence[Progress]) -> list[Line]:
    """Return the lines of a chart: training losses, and dashed the validation losses."""
    drawn = [a for a in adapters if a.train or a.valid][:DRAWN]
    train = [Line(f"{a.name}: training", a.train) for a in drawn]
    valid = [Line(f"{a.name}: validation", a.valid, dashed=True) for a in drawn]
    return [line for pair in zip(train, valid, strict=True) for line in pair]


def status_of(folder: str) -> RunStatus | None:
    """Return the status of a run; None where it has no status file."""
    try:
        return status(folder)
    except UserError:
        return None


def _points(pairs: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in pairs]
