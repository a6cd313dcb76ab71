"""What each step of a stack consists of, prepared before the step while the one before is running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest

import torch

from unharm.core.draws import rank
from unharm.core.models.transfer import staged
from unharm.training.guards import GuardPass, guard_pass
from unharm.training.optimiser import linear_rate
from unharm.training.preference import PairedLabels, Reference, paired_labels
from unharm.training.prefix_tree import PackedBatch, WeightedExample, pack
from unharm.training.settings import Recipe
from unharm.training.state import AdapterJob
from unharm.training.tokens import Tokens

MicroBatches = list[list[Tokens]]


@dataclass(frozen=True)
class PreparedStep:
    """One optimiser step of a stack.

    Attributes:
        epoch: Number of the epoch, from 0.
        number: Number of the step within it, from 0.
        passes: The forward passes, still in the memory of this machine.
        pairs: The pairs of answers in each pass; empty where the loss is the cross-entropy of labels.
        guard: Safe texts on which the divergence from the base is added to the loss.
        schedule: Steps done with this one, learning rate, and 1 if there are examples, of each adapter
            [3, K], in float64.
        labels: Number of label tokens of each adapter, or of its pairs; 0 without examples.
        examples: Number of examples.
        tokens: Number of tokens to compute.
    """

    epoch: int
    number: int
    passes: list[PackedBatch]
    pairs: list[PairedLabels]
    guard: GuardPass | None
    schedule: torch.Tensor
    labels: list[int]
    examples: int
    tokens: int


class Schedule:
    """The steps of a stack.

    Args:
        jobs: The adapters.
        recipe: How they are trained.
        row_tokens: Most tokens of one row of a forward pass.
        device: Where the steps will run.
        stage: Whether to put what a pass needs into one block of memory to copy from.
        reference: The base's log-probabilities of all answers, where examples are pairs.

    Attributes:
        per_epoch: Optimiser steps of each adapter in an epoch.
        longest: The most of them.
    """

    def __init__(
        self,
        jobs: list[AdapterJob],
        recipe: Recipe,
        row_tokens: int,
        device: torch.device,
        stage: bool,
        reference: Reference | None = None,
    ):
        self.jobs, self.recipe, self.row_tokens = jobs, recipe, row_tokens
        self.device, self.stage = device, stage
        self.reference: Reference = reference or {}
        self.per_epoch = [recipe.steps(len(j.train)) for j in jobs]
        self.longest = max(self.per_epoch)

    def prepare(self, epoch: int, number: int, groups: list[MicroBatches]) -> PreparedStep:
        """Return a step from the micro-batches of each adapter; empty for one that has none."""
        together = self.recipe.texts
        parts = [split_rows(_weighted(g, together), self.row_tokens, together) for g in groups]
        every = list(zip_longest(*parts, fillvalue=[]))
        passes = [pack(rows) for rows in every]
        pairs = [paired_labels(rows, self.reference) for rows in every] if together == 2 else []
        guard = self._guard_pass(epoch, number)
        if self.stage:
            passes = [batch.staged(self.device) for batch in passes]
        done = [epoch * steps + number for steps in self.per_epoch]
        rates = [
            linear_rate(self.recipe.lr, n, self.recipe.epochs * steps) if group else 0.0
            for n, steps, group in zip(done, self.per_epoch, groups, strict=True)
        ]
        columns = [[n + 1 for n in done], rates, [float(bool(group)) for group in groups]]
        return PreparedStep(
            epoch,
            number,
            passes,
            pairs,
            guard,
            staged(torch.tensor(columns, dtype=torch.float64), self.device),
            [sum(loss_count(batch, together) for batch in group) for group in groups],
            sum(len(batch) for group in groups for batch in group),
            sum(batch.tokens for batch in passes) + (guard.rows.tokens if guard else 0),
        )

    def _guard_pass(self, epoch: int, number: int) -> GuardPass | None:
        """Return the safe texts of a step, or None. A stack has one guard and one seed."""
        job = self.jobs[0]
        if job.guard is None:
            return None
        return guard_pass(job.guard, job.guard.batch(job.seed, epoch, number), len(self.jobs))


@contextmanager
def prepared_steps(
    schedule: Schedule, epoch: int, first: int, running: Callable[[], list[bool]], ahead: bool
) -> Iterator[Iterator[PreparedStep]]:
    """Yield the steps of an epoch from number `first` on.

    Args:
        schedule: The steps.
        epoch: Number of the epoch.
        first: The first step.
        running: Returns of each adapter whether it is still trained.
        ahead: Whether a thread prepares each step while the one before is running.
    """
    steps = [steps_of(job, schedule.recipe, epoch) for job in schedule.jobs]

    def prepare(number: int) -> PreparedStep:
        groups = [
            adapter_steps[number] if number < len(adapter_steps) and alive else []
            for adapter_steps, alive in zip(steps, running(), strict=True)
        ]
        return schedule.prepare(epoch, number, groups)

    def prepare_ahead(thread: ThreadPoolExecutor) -> Iterator[PreparedStep]:
        waiting: Future[PreparedStep] | None = None
        for number in range(first, schedule.longest):
            step = (waiting or thread.submit(prepare, number)).result()
            waiting = thread.submit(prepare, number + 1) if number + 1 < schedule.longest else None
            yield step

    if not ahead:
        yield (prepare(number) for number in range(first, schedule.longest))
        return
    with ThreadPoolExecutor(1, "next step") as thread:
        yield prepare_ahead(thread)


def steps_of(job: AdapterJob, recipe: Recipe, epoch: int) -> list[MicroBatches]:
    """Return the steps of one epoch, each a list of micro-batches.

    The order depends on seed, epoch and example (or its source) alone, so adapters that share examples see
    them in the same order.
    """
    by_source = recipe.order == "argument"

    def place(tokens: Tokens) -> str:
        return rank(job.seed, f"{epoch}/{tokens.source if by_source else tokens.example_id}")

    order = sorted(job.train, key=place)  # the texts of a pair have one place and stay in their order
    size = recipe.batch * recipe.texts
    micro = [order[i : i + size] for i in range(0, len(order), size)]
    return [micro[i : i + recipe.accumulate] for i in range(0, len(micro), recipe.accumulate)]


def label_count(batch: list[Tokens]) -> int:
    """Return the number of label tokens in a batch."""
    return sum(len(t.ids) - t.start for t in batch)


def loss_count(batch: list[Tokens], together: int) -> int:
    """Return the number of label tokens in a batch, or of its pairs."""
    return label_count(batch) if together == 1 else len(batch) // together


def _weighted(group: MicroBatches, together: int) -> list[WeightedExample]:
    """Weight examples so that the loss is the mean over micro-batches of that over labels or pairs."""
    return [
        WeightedExample(t, 1 / loss_count(batch, together) / len(group)) for batch in group for t in batch
    ]


def split_rows(
    examples: list[WeightedExample], row_tokens: int, together: int = 1
) -> list[list[WeightedExample]]:
    """Split the examples of one adapter into rows of at most `row_tokens` tokens, in order.

    So many examples as `together` says stay in one row.
    """
    rows: list[list[WeightedExample]] = []
    tokens_left = 0
    for first in range(0, len(examples), together):
        part = examples[first : first + together]
        size = sum(len(example.tokens.ids) for example in part)
        if size > tokens_left or not rows:
            rows.append([])
            tokens_left = row_tokens
        rows[-1] += part
        tokens_left -= size
    return rows
