"""Train stacked adapters on a frozen base: AdamW, linear decay, best epoch by validation loss.

The recipe is the published one (Choi et al., 2025): no warm-up, and the epoch with the lowest validation
loss is kept. Every adapter has its own loss, moments, schedule and best epoch. Its final weights do not
depend on the other adapters of the stack, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import torch

from unharm.core.errors import UserError
from unharm.core.models.transfer import Readback, to_device
from unharm.core.models.transformers import out_of_memory
from unharm.training.attention import label_logits
from unharm.training.dropout import Draw
from unharm.training.guards import GuardPass, divergences, shifted
from unharm.training.loss import label_losses, per_adapter
from unharm.training.loss_fall import fall
from unharm.training.optimiser import adamw_step
from unharm.training.preference import PairedLabels, pair_losses, paired_labels, reference_of
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.schedule import PreparedStep, Schedule, loss_count, prepared_steps, split_rows
from unharm.training.settings import PreferenceRecipe, Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import CURVE_POINTS, AdapterJob, TrainingState
from unharm.training.tokens import Tokens

DIVERGED = 2.0
"""Treat training as diverged when the loss exceeds this multiple of log(vocabulary size)."""


class OutOfMemory(Exception):
    """A step of the stack does not fit into memory. The state is the one before the step."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """What to call during training.

    Attributes:
        step: Called after every optimiser step with the numbers of examples and computed tokens.
        save: Called with the state whenever it may be stored and `save_due` says so.
        save_due: Returns whether to call `save`. The losses up to then are read first, which makes the
            processor wait for an accelerator.
        epoch: Called after every epoch with the state; `state.epoch` counts the epochs done.
        point: Called with the adapter's number, `train` or `valid`, the optimiser steps done, and a loss.
        say: Called with messages for the user.
    """

    step: Callable[[int, int], None] = lambda examples, tokens: None
    save: Callable[[TrainingState], None] | None = None
    save_due: Callable[[], bool] = lambda: True
    epoch: Callable[[TrainingState], None] = lambda state: None
    point: Callable[[int, str, int, float], None] = lambda adapter, curve, steps, loss: None
    say: Callable[[str], None] = lambda text: None


def train_stack(
    stack: Stack,
    state: TrainingState,
    jobs: list[AdapterJob],
    recipe: Recipe,
    row_tokens: int,
    callbacks: TrainingCallbacks,
    ahead: bool | None = None,
) -> None:
    """Train all adapters of `state` to their end. `state.best` then holds the final weights.

    An adapter whose loss diverges or is not finite is stopped with a message; the others go on. The base
    must be inside `packing`, and the stack attached.

    Args:
        stack: The stack; its weights are overwritten by those of `state`.
        state: Where to start from; updated in place.
        jobs: The adapters, in the order of `state.keys`.
        recipe: How to train.
        row_tokens: Most tokens of one row of a forward pass. A step with more takes several passes.
        callbacks: What to call during training.
        ahead: Whether to prepare the next step in a thread, and to read losses one step late, so that an
            accelerator never waits for the processor. By default where there is one.

    Raises:
        OutOfMemory: A step does not fit. `state` is the one before the step.
        UserError: A single adapter does not fit.
    """
    stack.weights.copy_(state.weights)
    state.move_to(stack.weights)
    if ahead is None:
        ahead = stack.weights.device.type != "cpu"
    reference = _reference(stack, jobs, recipe, row_tokens)
    schedule = Schedule(jobs, recipe, row_tokens, stack.weights.device, ahead, reference)
    training = StackTraining(stack, state, jobs, recipe, schedule, callbacks, ahead)
    for epoch in range(state.epoch, recipe.epochs):
        first = state.step
        with prepared_steps(schedule, epoch, first, training.running, ahead) as steps:
            for step in steps:
                within_memory(training, partial(training.step, step))
                state.step += 1
                callbacks.step(step.examples, step.tokens)
                if state.step < schedule.longest:
                    training.save_if_due()
        within_memory(training, training.end_epoch)
        state.epoch, state.step = epoch + 1, 0
        callbacks.epoch(state)
        training.save_if_due()


def initial_state(stack: Stack, jobs: list[AdapterJob]) -> TrainingState:
    """Return the state before the first step: every adapter with its initial weights."""
    weights = [stack.initial_weights(j.seed) if j.start is None else j.start for j in jobs]
    return TrainingState.begin([j.key for j in jobs], torch.stack(weights).to(stack.weights))


@dataclass
class StackTraining:
    """The training of one stack.

    Attributes:
        late: Whether the losses of a step are read after the next one has begun.
    """

    stack: Stack
    state: TrainingState
    jobs: list[AdapterJob]
    recipe: Recipe
    schedule: Schedule
    callbacks: TrainingCallbacks
    late: bool
    _unread: tuple[PreparedStep, Readback] | None = None

    def __post_init__(self) -> None:
        self._alive = to_device(torch.tensor(self.running()), self.stack.weights.device)

    @property
    def loss_limit(self) -> float:
        """The loss in nats above which training counts as diverged."""
        return DIVERGED * math.log(self.stack.model.config.get_text_config().vocab_size)

    def running(self) -> list[bool]:
        """Return of each adapter whether it is still trained, as far as losses were read."""
        return [not curve.stopped for curve in self.state.curves]

    def step(self, step: PreparedStep) -> None:
        """Do one optimiser step of every adapter that has examples in it.

        The loss of a step is the mean over micro-batches of the mean over their label tokens.
        """
        stack, adapters = self.stack, len(self.jobs)
        stack.grads.zero_()
        sums = torch.zeros(2, adapters, dtype=torch.float64, device=stack.weights.device)
        objective, losses = sums
        for number, batch in enumerate(step.passes):
            packed = batch.to(sums.device)
            draw = (step.epoch, step.number, number)
            seeds = tuple(job.seed for job in self.jobs)
            stack.set_dropout(Draw(seeds, draw, packed.ids.shape[1], packed.predictors))
            with shifted(stack.model, self.jobs[0].shift):
                each = label_losses(label_logits(stack.model, packed), packed)
                weight, adapter = packed.label_weight, packed.label_adapter
                if step.pairs:
                    each, paired = self._of_pairs(each, step.pairs[number])
                    weight, adapter = paired.weight, paired.adapter
                (each * weight).sum().backward()
            objective += per_adapter((each * weight).detach(), adapter, adapters)
            losses += per_adapter(each.detach(), adapter, adapters)
        if step.guard:
            self._add_divergence(step.guard)
        self._update(step, objective)
        unread = step, Readback(sums)
        self.read_losses()
        self._unread = unread
        if not self.late:
            self.read_losses()

    def _add_divergence(self, guard: GuardPass) -> None:
        """Add the gradients of the divergence from the base on safe texts, without dropout.

        It is no part of the curves, which show the loss of the examples.
        """
        stack, device = self.stack, self.stack.weights.device
        stack.set_dropout(None)
        base, rows = guard.base.to(device), guard.rows.to(device)
        with stack.detached(), torch.no_grad():
            reference = label_logits(stack.model, base)
        each = divergences(reference, label_logits(stack.model, rows), rows)
        (each * rows.label_weight).sum().backward()

    def _of_pairs(self, each: torch.Tensor, paired: PairedLabels) -> tuple[torch.Tensor, PairedLabels]:
        """Return the loss of each pair [pairs] from that of each label, and the pairs on its device."""
        paired = paired.to(each.device)
        beta = self.recipe.beta if isinstance(self.recipe, PreferenceRecipe) else 0.0
        return pair_losses(each, paired, beta), paired

    def _update(self, step: PreparedStep, objective: torch.Tensor) -> None:
        """Apply AdamW to the adapters that have examples, a loss below the limit and finite gradients.

        The objective of an adapter with gradients that are not finite is set to NaN, so that `read_losses`
        stops it. Its weights stay as they are from then on.
        """
        state, stack = self.state, self.stack
        below = objective < self.loss_limit
        trainable = below & stack.grads.isfinite().all(dim=1)
        objective.masked_fill_(below & ~trainable, torch.nan)
        steps, rates, has_examples = step.schedule.to(objective.device, non_blocking=True).unbind()
        active = has_examples > 0
        still_alive = self._alive & (trainable | ~active)
        adamw_step(
            stack.weights,
            stack.grads,
            state.first,
            state.second,
            steps=steps,
            rates=rates,
            weight_decay=self.recipe.weight_decay,
            active=trainable & active & self._alive,
        )
        self._alive = still_alive

    def read_losses(self) -> None:
        """Add the step whose losses are not read yet to the curves.

        Stops adapters whose loss diverged or is not finite.
        """
        if self._unread is None:
            return
        (step, numbers), self._unread = self._unread, None
        objective, losses = numbers.read()
        for k, curve in enumerate(self.state.curves):
            if not step.labels[k] or curve.stopped:
                continue
            if not objective[k] < self.loss_limit:
                problem = f"{objective[k]:.3g}" if math.isfinite(objective[k]) else "not a finite number"
                self._stop(k, f"the loss is {problem} in epoch {step.epoch + 1}, step {step.number + 1}")
                continue
            curve.add(losses[k], step.labels[k])
            per_epoch = self.schedule.per_epoch[k]
            before, after = (CURVE_POINTS * (step.number + i) // per_epoch for i in (0, 1))
            if after > before:
                curve.close_window(step.epoch * per_epoch + step.number + 1)
                self.callbacks.point(k, "train", *curve.train[-1])

    def save_if_due(self) -> None:
        """Offer the state for storing."""
        if self.callbacks.save is not None and self.callbacks.save_due():
            self.read_losses()
            self.callbacks.save(self.state)

    def _stop(self, k: int, why: str) -> None:
        """Stop an adapter and say why."""
        self.state.curves[k].stopped = why
        self.callbacks.say(f"{self.jobs[k].label}: training stopped, {why}")

    def end_epoch(self) -> None:
        """Compute validation losses and keep the weights of the best epoch so far.

        The best has the lowest validation loss, or the fall of the training loss that is nearest to that of
        the job. Without either, it is the last.
        """
        self.read_losses()
        current = self.validation_losses([j.valid for j in self.jobs])
        for k, (job, curve) in enumerate(zip(self.jobs, self.state.curves, strict=True)):
            if curve.stopped:
                continue
            if job.valid and not math.isfinite(current[k]):
                self._stop(k, f"the validation loss is no number after epoch {self.state.epoch + 1}")
                continue
            if self._is_best(k, current[k]):
                curve.best_epoch = self.state.epoch + 1
                self.state.best[k] = self.stack.weights[k]
            if job.valid:
                curve.valid.append(current[k])
                self.callbacks.point(
                    k, "valid", (self.state.epoch + 1) * self.schedule.per_epoch[k], current[k]
                )

    def _is_best(self, k: int, valid: float) -> bool:
        """Return whether the epoch that ends is the best of an adapter so far."""
        job, curve, per_epoch = self.jobs[k], self.state.curves[k], self.schedule.per_epoch[k]
        if job.fall is None:
            return not job.valid or valid < min(curve.valid, default=math.inf)
        if not curve.best_epoch:
            return True
        now, before = (
            abs(fall(curve.train, epoch * per_epoch) - job.fall)
            for epoch in (self.state.epoch + 1, curve.best_epoch)
        )
        return now < before

    def validation_losses(self, sets: list[list[Tokens]]) -> list[float]:
        """Return the mean loss per label token, or per pair, of each adapter on its own set; 0 for an empty
        set."""
        stack, together = self.stack, self.recipe.texts
        stack.set_dropout(None)
        totals = torch.zeros(len(sets), dtype=torch.float64, device=stack.weights.device)
        with torch.inference_mode():
            weighted = [[WeightedExample(t, 1.0) for t in batch] for batch in sets]
            parts = [split_rows(batch, self.schedule.row_tokens, together) for batch in weighted]
            for rows in zip_longest(*parts, fillvalue=[]):
                packed = pack(rows).to(totals.device)
                each = label_losses(label_logits(stack.model, packed), packed)
                adapter = packed.label_adapter
                if together == 2:
                    each, paired = self._of_pairs(each, paired_labels(rows, self.schedule.reference))
                    adapter = paired.adapter
                totals += per_adapter(each, adapter, len(sets))
        counts = [loss_count(batch, together) for batch in sets]
        return [total / max(1, n) for total, n in zip(totals.tolist(), counts, strict=True)]


def _reference(stack: Stack, jobs: list[AdapterJob], recipe: Recipe, row_tokens: int) -> dict[bytes, float]:
    """Return the base's log-probabilities of all answers where examples are pairs, else nothing."""
    if recipe.texts == 1:
        return {}
    with stack.detached():
        return reference_of(stack.model, (t for j in jobs for t in (*j.train, *j.valid)), row_tokens)


def within_memory(training: StackTraining, work: Callable[[], None]) -> None:
    """Do some work. Turns memory errors into `OutOfMemory`, or into a `UserError` for a single adapter.

    The error of torch is let go of before anything else happens: its traceback holds the graph of the
    failed pass, and with it the memory that is needed to go on.
    """
    try:
        work()
        return
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    training.stack.set_dropout(None)
    training.read_losses()
    if len(training.jobs) > 1:
        raise OutOfMemory
    raise UserError(
        "no memory to train a single adapter",
        "training",
        "lower training.row_tokens, set training.checkpointing: true, or use a bfloat16 base",
    )
