"""Train stacked adapters on a frozen base: AdamW, linear decay, best epoch by validation loss.

The recipe is the published one (Choi et al., 2025): no warm-up, and the epoch with the lowest validation
loss is kept. Every adapter has its own loss, moments, schedule and best epoch. Its final weights do not
depend on the other adapters of the stack, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest

import torch

from unharm.core.draws import rank
from unharm.core.errors import UserError
from unharm.core.models.transformers import out_of_memory
from unharm.training.attention import label_logits
from unharm.training.loss import label_losses, per_adapter
from unharm.training.optimiser import adamw_step, linear_rate
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import CURVE_POINTS, AdapterJob, TrainingState, steps_per_epoch
from unharm.training.tokens import Tokens

DIVERGED = 2.0
"""Treat training as diverged when the loss exceeds this multiple of log(vocabulary size)."""

MicroBatches = list[list[Tokens]]


class OutOfMemory(Exception):
    """A step of the stack does not fit into memory. The state is the one before the step."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """What to call during training.

    Attributes:
        step: Called after every optimiser step with the numbers of examples and computed tokens.
        save: Called with the state whenever it may be stored.
        point: Called with the adapter's number, `train` or `valid`, the optimiser steps done, and a loss.
        say: Called with messages for the user.
    """

    step: Callable[[int, int], None] = lambda examples, tokens: None
    save: Callable[[TrainingState], None] = lambda state: None
    point: Callable[[int, str, int, float], None] = lambda adapter, curve, steps, loss: None
    say: Callable[[str], None] = lambda text: None


def train_stack(
    stack: Stack,
    state: TrainingState,
    jobs: list[AdapterJob],
    recipe: Recipe,
    row_tokens: int,
    callbacks: TrainingCallbacks,
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

    Raises:
        OutOfMemory: A step does not fit. `state` is the one before the step.
        UserError: A single adapter does not fit.
    """
    stack.weights.copy_(state.weights)
    state.move_to(stack.weights)
    per_epoch = [steps_per_epoch(len(j.train), recipe.batch, recipe.accumulate) for j in jobs]
    training = StackTraining(stack, state, jobs, recipe, per_epoch, row_tokens, callbacks)
    for epoch in range(state.epoch, recipe.epochs):
        steps = [training.steps_of(job, epoch) for job in jobs]
        while state.step < max(per_epoch):
            groups = [
                adapter_steps[state.step] if state.step < len(adapter_steps) and not curve.stopped else []
                for adapter_steps, curve in zip(steps, state.curves, strict=True)
            ]
            with _translate_out_of_memory(len(jobs)):
                tokens = training.step(groups)
            state.step += 1
            callbacks.step(sum(len(batch) for group in groups for batch in group), tokens)
            if state.step < max(per_epoch):
                callbacks.save(state)
        with _translate_out_of_memory(len(jobs)):
            training.end_epoch()
        state.epoch, state.step = epoch + 1, 0
        callbacks.save(state)


def initial_state(stack: Stack, jobs: list[AdapterJob]) -> TrainingState:
    """Return the state before the first step: every adapter with its initial weights."""
    weights = [stack.initial_weights(j.seed) if j.start is None else j.start for j in jobs]
    return TrainingState.begin([j.key for j in jobs], torch.stack(weights).to(stack.weights))


@dataclass(frozen=True)
class StackTraining:
    """The training of one stack. `per_epoch` are the optimiser steps of each adapter."""

    stack: Stack
    state: TrainingState
    jobs: list[AdapterJob]
    recipe: Recipe
    per_epoch: list[int]
    row_tokens: int
    callbacks: TrainingCallbacks

    @property
    def loss_limit(self) -> float:
        """The loss in nats above which training counts as diverged."""
        return DIVERGED * math.log(self.stack.model.config.get_text_config().vocab_size)

    def steps_of(self, job: AdapterJob, epoch: int) -> list[MicroBatches]:
        """Return the steps of one epoch, each a list of micro-batches.

        The order depends on seed, epoch and example (or its source) alone, so adapters that share examples
        see them in the same order.
        """
        by_source = self.recipe.order == "argument"

        def place(tokens: Tokens) -> str:
            return rank(job.seed, f"{epoch}/{tokens.source if by_source else tokens.example_id}")

        order = sorted(job.train, key=place)
        micro = [order[i : i + self.recipe.batch] for i in range(0, len(order), self.recipe.batch)]
        size = self.recipe.accumulate
        return [micro[i : i + size] for i in range(0, len(micro), size)]

    def step(self, groups: list[MicroBatches]) -> int:
        """Do one optimiser step of every adapter that has micro-batches.

        The loss of a step is the mean over micro-batches of the mean over their label tokens.

        Args:
            groups: The micro-batches of each adapter; empty for one that has finished its epoch.

        Returns:
            The number of tokens computed.
        """
        stack, state, adapters = self.stack, self.state, len(self.jobs)
        stack.grads.zero_()
        objective = torch.zeros(adapters, dtype=torch.float64, device=stack.weights.device)
        losses, tokens = objective.clone(), 0
        parts = [split_rows(_weighted(group), self.row_tokens) for group in groups]
        for number, rows in enumerate(zip_longest(*parts, fillvalue=[])):
            packed = pack(rows).to(objective.device)
            draw = (state.epoch, state.step, number)
            stack.set_dropout([j.seed for j in self.jobs], draw, packed.ids.shape[1], packed.predictors)
            each = label_losses(label_logits(stack.model, packed), packed)
            (each * packed.label_weight).sum().backward()
            objective += per_adapter((each * packed.label_weight).detach(), packed, adapters)
            losses += per_adapter(each.detach(), packed, adapters)
            tokens += packed.tokens
        self._update(groups, objective)
        labels = [sum(_label_count(batch) for batch in group) for group in groups]
        self._record(groups, objective.tolist(), losses.tolist(), labels)
        return tokens

    def _update(self, groups: list[MicroBatches], objective: torch.Tensor) -> None:
        """Apply AdamW to the adapters that have micro-batches, a loss below the limit and finite gradients.

        The objective of an adapter with gradients that are not finite is set to NaN, so that `_record`
        stops it.
        """
        state, stack, device = self.state, self.stack, objective.device
        limit = self.loss_limit
        trainable = (objective < limit) & stack.grads.isfinite().all(dim=1)
        objective[~trainable & objective.isfinite() & (objective < limit)] = torch.nan
        done = [state.epoch * epoch_steps + state.step for epoch_steps in self.per_epoch]
        rates = [
            linear_rate(self.recipe.lr, n, self.recipe.epochs * epoch_steps) if group else 0.0
            for n, epoch_steps, group in zip(done, self.per_epoch, groups, strict=True)
        ]
        adamw_step(
            stack.weights,
            stack.grads,
            state.first,
            state.second,
            steps=torch.tensor(done, device=device) + 1,
            rates=torch.tensor(rates, dtype=torch.float64, device=device),
            weight_decay=self.recipe.weight_decay,
            active=trainable & torch.tensor([bool(group) for group in groups], device=device),
        )

    def _record(
        self,
        groups: list[MicroBatches],
        objective: list[float],
        losses: list[float],
        labels: list[int],
    ) -> None:
        """Add the step to the curves. Stops adapters whose loss diverged or is not finite."""
        state = self.state
        for k, curve in enumerate(state.curves):
            if not groups[k]:
                continue
            if not objective[k] < self.loss_limit:
                problem = f"{objective[k]:.3g}" if math.isfinite(objective[k]) else "not a finite number"
                self._stop(k, f"the loss is {problem} in epoch {state.epoch + 1}, step {state.step + 1}")
                continue
            curve.add(losses[k], labels[k])
            before, after = (CURVE_POINTS * (state.step + i) // self.per_epoch[k] for i in (0, 1))
            if after > before:
                curve.close_window(state.epoch * self.per_epoch[k] + state.step + 1)
                self.callbacks.point(k, "train", *curve.train[-1])

    def _stop(self, k: int, why: str) -> None:
        """Stop an adapter and say why."""
        self.state.curves[k].stopped = why
        self.callbacks.say(f"{self.jobs[k].label}: training stopped, {why}")

    def end_epoch(self) -> None:
        """Compute validation losses and keep the weights of the best epoch so far.

        Without validation examples the last epoch counts as the best.
        """
        current = validation_losses(self.stack, [j.valid for j in self.jobs], self.row_tokens)
        for k, (job, curve) in enumerate(zip(self.jobs, self.state.curves, strict=True)):
            if curve.stopped:
                continue
            if job.valid and not math.isfinite(current[k]):
                self._stop(k, f"the validation loss is no number after epoch {self.state.epoch + 1}")
                continue
            if not job.valid or current[k] < min(curve.valid, default=math.inf):
                curve.best_epoch = self.state.epoch + 1
                self.state.best[k] = self.stack.weights[k]
            if job.valid:
                curve.valid.append(current[k])
                self.callbacks.point(k, "valid", (self.state.epoch + 1) * self.per_epoch[k], current[k])


def _label_count(batch: list[Tokens]) -> int:
    """Return the number of label tokens in a batch."""
    return sum(len(t.ids) - t.start for t in batch)


def _weighted(group: MicroBatches) -> list[WeightedExample]:
    """Weight examples so that the loss is the mean over micro-batches of their mean over labels."""
    return [WeightedExample(t, 1 / _label_count(batch) / len(group)) for batch in group for t in batch]


def split_rows(examples: list[WeightedExample], row_tokens: int) -> list[list[WeightedExample]]:
    """Split the examples of one adapter into rows of at most `row_tokens` tokens, in order."""
    rows: list[list[WeightedExample]] = []
    tokens_left = 0
    for example in examples:
        size = len(example.tokens.ids)
        if size > tokens_left or not rows:
            rows.append([])
            tokens_left = row_tokens
        rows[-1].append(example)
        tokens_left -= size
    return rows


def validation_losses(stack: Stack, sets: list[list[Tokens]], row_tokens: int) -> list[float]:
    """Return the mean cross-entropy per label token of each adapter on its own set; 0 for an empty set."""
    stack.set_dropout([], (), 0, 0)
    totals = torch.zeros(len(sets), dtype=torch.float64, device=stack.weights.device)
    with torch.inference_mode():
        parts = [split_rows([WeightedExample(t, 1.0) for t in batch], row_tokens) for batch in sets]
        for rows in zip_longest(*parts, fillvalue=[]):
            packed = pack(rows).to(totals.device)
            totals += per_adapter(
                label_losses(label_logits(stack.model, packed), packed), packed, len(sets)
            )
    return [total / max(1, _label_count(batch)) for total, batch in zip(totals.tolist(), sets, strict=True)]


@contextmanager
def _translate_out_of_memory(adapters: int) -> Iterator[None]:
    """Turn memory errors of torch into `OutOfMemory`, or into a `UserError` for a single adapter."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if adapters > 1:
            raise OutOfMemory from None
        raise UserError(
            "no memory to train a single adapter",
            "training",
            "lower training.row_tokens, set training.checkpointing: true, or use a bfloat16 base",
        ) from None
