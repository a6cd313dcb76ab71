"""A run that is shown: its views and its index, made again when the run has gone on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from unharm.runs.context import Run
from unharm.runs.views import Views, make_views, open_views
from unharm.view.index import Index

EVERY = 5.0
"""Seconds between two looks at whether the run has gone on."""


class Source:
    """One run. `views` and `index` belong together; take both by one call of `current`.

    Args:
        folder: The run folder.
        run: The run if it is open already.
    """

    def __init__(self, folder: Path, run: Run | None = None):
        self.folder = folder
        self._lock = threading.Lock()
        self._views = make_views(run) if run else open_views(folder)
        self._index = Index(self._views)
        self._state, self._looked = self._stamp(), time.monotonic()

    @property
    def name(self) -> str:
        """The name of the study."""
        return self._views.run.study.name

    def current(self) -> tuple[Views, Index]:
        """Return views and index, those of now where the run has gone on since."""
        with self._lock:
            if time.monotonic() - self._looked >= EVERY:
                self._looked = time.monotonic()
                state = self._stamp()
                if state != self._state:
                    old = self._views.run
                    self._views = make_views(Run(old.study, old.store, old.plan, old.dry))
                    self._index, self._state = Index(self._views), state
            return self._views, self._index

    def close(self) -> None:
        """Close the connection."""
        self._views.close()

    def _stamp(self) -> tuple[int, ...]:
        """Return what changes when files of the run are finished: the times of their folders of markers."""
        store = self._views.run.store
        store.refresh()
        root = store.root / ".done"
        return tuple(sorted(p.stat().st_mtime_ns for p in (root, *root.rglob("*")) if p.is_dir()))
