"""The shards of a run: its files of completions and scores.

Shards are known once the adapters are done, because the key of a shard depends on the adapter's content.
"""

from __future__ import annotations

import socket
from functools import cached_property

from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.executors.chunks import Item
from unharm.runs import keys
from unharm.runs.adapters import adapter_folder, adapter_tasks, failed_adapters
from unharm.runs.context import Run
from unharm.runs.keys import Shard

SUBJECTS = 64
"""Number of subjects whose shards are cached."""


class Shards:
    """The shards of a run, computed on demand and cached."""

    def __init__(self, run: Run):
        self._run = run
        self._by_subject: dict[int, dict[str, Shard]] = {}

    @cached_property
    def every(self) -> list[Shard]:
        """All shards in the order of the subjects, without those whose adapter failed."""
        run, failed = self._run, failed_adapters(self._run)
        return [
            shard
            for subject in run.plan.subjects
            if adapter_tasks(run).of_subject(subject) not in failed
            for shard in self.of_subject(subject)
        ]

    def of_subject(self, subject: Subject) -> list[Shard]:
        """Return all shards of a subject. Raise `NotDone` if its adapter is not made yet."""
        folder = adapter_folder(self._run, subject)
        return list(keys.shards(self._run.plan, subject, self._run.base.key, folder.name if folder else ""))

    @cached_property
    def numbers(self) -> dict[Subject, int]:
        """The position of each subject in the plan."""
        return {subject: number for number, subject in enumerate(self._run.plan.subjects)}

    def find(self, item: Item) -> Shard:
        """Return the shard of an item; see `shard_of`."""
        number, path = item
        subject = self._run.plan.subjects[number]
        if number not in self._by_subject:
            if len(self._by_subject) >= SUBJECTS:
                self._by_subject.clear()
            self._by_subject[number] = {s.completions.path: s for s in self.of_subject(subject)}
        if path not in self._by_subject[number]:
            raise UserError(
                "this worker sees different inputs than the leading process",
                f"{subject.label} on {socket.gethostname()}",
                "put data, profiles and prompt packs on a disk that all machines share",
            )
        return self._by_subject[number][path]


def _shards(run: Run) -> Shards:
    """Return the shards of a run, created once per process."""
    return run.cache.get(Shards, lambda: Shards(run))


def all_shards(run: Run) -> list[Shard]:
    """Return every shard of the study. Raise `NotDone` if an adapter is not made yet."""
    return _shards(run).every


def shards_of(run: Run, subject: Subject) -> list[Shard]:
    """Return the shards of a subject. Raise `NotDone` if its adapter is not made yet."""
    return _shards(run).of_subject(subject)


def item_of(run: Run, shard: Shard) -> Item:
    """Return the item of a shard: the number of its subject and its path."""
    return _shards(run).numbers[shard.subject], shard.completions.path


def shard_of(run: Run, item: Item) -> Shard:
    """Return the shard of an item.

    Raises:
        UserError: There is none. Workers recompute the content keys; a mismatch means that the worker sees
            different input files.
    """
    return _shards(run).find(item)


def forget_shards(run: Run) -> None:
    """Drop the cached shards, after adapters have changed or other processes have written."""
    run.cache.forget(Shards)
    run.store.refresh("completions", "failed")
