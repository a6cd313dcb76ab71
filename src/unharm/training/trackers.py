"""Report loss curves to an experiment tracker, through accelerate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unharm.core.errors import UserError


class Trackers:
    """Writes every point of a loss curve to the chosen trackers. Does nothing without trackers.

    Args:
        names: Names of trackers, as accelerate knows them.
        folder: Where trackers write their logs.
        project: Name of the project in the tracker.
        config: Settings to record with the run.

    Raises:
        UserError: A tracker is not installed.
    """

    def __init__(self, names: list[str], folder: Path, project: str, config: dict[str, Any]):
        self._accelerator: Any = None
        if not names:
            return
        from accelerate import Accelerator
        from accelerate.utils import imports

        missing = [n for n in names if not getattr(imports, f"is_{n}_available")()]
        if missing:
            raise UserError(
                f"the tracker {missing[0]!r} is not installed",
                "training.trackers",
                f"pip install {' '.join(missing)}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._accelerator = Accelerator(log_with=names, project_dir=str(folder))
        self._accelerator.init_trackers(project, config=config)

    def point(self, label: str, curve: str, steps: int, loss: float) -> None:
        """Report one loss of an adapter after so many optimiser steps."""
        if self._accelerator:
            self._accelerator.log({f"{label}/{curve}_loss": loss}, step=steps)

    def flush(self) -> None:
        """Write buffered points to disk, because the process may be killed later."""
        for tracker in self._accelerator.trackers if self._accelerator else []:
            if hasattr(tracker, "writer"):
                tracker.writer.flush()
