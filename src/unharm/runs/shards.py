"""The shards of a run: which files of completions and scores it is made of.

They are known once the adapters are done, because the key of a shard depends on the content of its adapter.
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
"""Subjects whose shards a worker remembers."""


class Shards:
    """The shards that this process knows of."""

    def __init__(self, run: Run):
        self._run = run
        self._by_subject: dict[int, dict[str, Shard]] = {}

    @cached_property
    def every(self) -> list[Shard]:
        """All shards of the study, subject by subject, but for those whose adapter failed."""
        run, failed = self._run, failed_adapters(self._run)
        return [
            shard
            for subject in run.plan.subjects
            if adapter_tasks(run).of_subject(subject) not in failed
            for shard in self.of_subject(subject)
        ]

    def of_subject(self, subject: Subject) -> list[Shard]:
        """All shards of a subject. Raises `NotDone` where its adapter is not made yet."""
        folder = adapter_folder(self._run, subject)
        return list(keys.shards(self._run.plan, subject, self._run.base.key, folder.name if folder else ""))

    @cached_property
    def numbers(self) -> dict[Subject, int]:
        return {subject: number for number, subject in enumerate(self._run.plan.subjects)}

    def named(self, item: Item) -> Shard:
        """The shard that an item of a chunk names."""
        number, path = item
        subject = self._run.plan.subjects[number]
        if number not in self._by_subject:
            if len(self._by_subject) >= SUBJECTS:
                self._by_subject.clear()
            self._by_subject[number] = {s.completions.path: s for s in self.of_subject(subject)}
        if path not in self._by_subject[number]:
            raise UserError(
                "this worker sees other inputs than the process that leads the run",
                f"{subject.label} on {socket.gethostname()}",
                "put data, profiles and packs where all machines see the same",
            )
        return self._by_subject[number][path]


def _known(run: Run) -> Shards:
    return run.kept.get(Shards, lambda: Shards(run))


def all_shards(run: Run) -> list[Shard]:
    """Every shard of the study. Raises `NotDone` where an adapter is not made yet."""
    return _known(run).every


def item_of(run: Run, shard: Shard) -> Item:
    """What a worker finds a shard by: the number of its subject, and its path."""
    return _known(run).numbers[shard.subject], shard.completions.path


def shard_of(run: Run, item: Item) -> Shard:
    """The shard that an item names. Raises `UserError` where this process knows none: a worker that sees
    other input files computes other keys."""
    return _known(run).named(item)


def forget_shards(run: Run) -> None:
    """Look at the shards anew: adapters have changed, or other processes have written."""
    run.kept.forget(Shards)
    run.store.refresh("completions", "failed")
