"""Training in one process: the base is loaded once, then stacks of adapters are trained in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from unharm.core import interrupt
from unharm.core.arms import guard_of
from unharm.core.errors import UserError
from unharm.core.models.memory import free_device_memory, keep_freed_memory
from unharm.core.models.peft_folder import read_weights, write_adapter
from unharm.core.progress import Tally, say
from unharm.engines.row_shifts import check_shift
from unharm.executors.chunks import Meter
from unharm.runs.adapters import AdapterTask, AdapterTasks, examples_of, record_failure
from unharm.runs.context import Run
from unharm.runs.matched_loss import fall_to_match
from unharm.training.attention import check_packing, packing, recomputing
from unharm.training.checkpoints import Checkpoints, load_states
from unharm.training.guards import KlGuard, interleaved
from unharm.training.live_curves import LiveCurves
from unharm.training.loop import OutOfMemory, TrainingCallbacks, initial_state, train_stack
from unharm.training.settings import SAFE_TEXTS, Recipe
from unharm.training.stack_size import StackSizes, bound, measure, peak_of
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob, Curve, TrainingState
from unharm.training.tokens import Tokenizer, whole_pairs
from unharm.training.trackers import Trackers


@dataclass
class Session:
    """Training state of a process.

    Attributes:
        run: The run.
        tasks: Its adapters.
        progress: Receives the progress.
        done: Number of finished adapters.
        sizes: How many adapters fit into memory.
        checked: Training stages whose packing was checked.
        tokens: Tokens trained by this process.
        began: Start time.
        counted: Keys of adapters whose stored progress was counted.
    """

    run: Run
    tasks: AdapterTasks
    progress: Meter = field(default_factory=Tally)
    done: int = 0
    sizes: StackSizes = field(default_factory=StackSizes)
    checked: set[str] = field(default_factory=set)
    tokens: int = 0
    began: float = field(default_factory=time.monotonic)
    counted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        study = self.run.study
        config = {"base": self.run.base.name, "seed": study.seed, **study.training.lora.model_dump()}
        self.trackers = Trackers(
            study.training.trackers,
            self.run.store.tracker_folder,
            study.name,
            {k: v if isinstance(v, int | float | str) else str(v) for k, v in config.items()},
        )
        keep_freed_memory()

    def make(self, stack: list[str], over: set[str]) -> None:
        """Train adapters of one training stage, as one stack or as several if they do not fit into memory.

        Stacks with a checkpoint are continued.

        Args:
            stack: Content keys of the adapters.
            over: Keys of adapters that are done or have failed.
        """
        rest = [key for key in stack if key not in over]
        if not rest:
            return
        run, study = self.run, self.run.study
        by_key = {t.key: t for t in self.tasks.trained}
        whole = self._as_before(stack)
        rest = stack if whole else rest
        stage, recipe = by_key[rest[0]].plan.stage, run.plan.recipe(by_key[rest[0]].plan)
        inoculated = guard_of(by_key[rest[0]].plan.arm) == "inoculate"
        tokenize = Tokenizer(
            run.loaded.tokenizer,
            study.prompting.format,
            run.plan.chat_form,
            recipe.max_length,
            study.training.guard.line if inoculated else "",
        )
        shape = Stack(run.loaded.model, study.training.lora, 1)
        queue = [s for s in load_states(run.store, shape.size, stack) if self._to_resume(s, set(rest))]
        begun = {key for state in queue for key in state.keys}
        rest = [key for key in rest if key not in begun]
        while (queue or rest) and not interrupt.stop_requested():
            state = queue.pop(0) if queue else None
            stacked = state.keys if state else rest
            jobs = [self._job(by_key[stacked[0]], shape, tokenize)]
            if state is None:
                stacked = rest if whole else rest[: self._size(shape, jobs[0], recipe)]
                rest = rest[len(stacked) :]
            jobs += [self._job(by_key[key], shape, tokenize) for key in stacked[1:]]
            if stage not in self.checked:
                by_length = sorted(jobs[0].train, key=lambda t: len(t.ids))
                check_packing(
                    run.loaded.model, [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
                )
                self.checked.add(stage)
            queue += self._train([by_key[key] for key in stacked], jobs, state, recipe)

    def _to_resume(self, state: TrainingState, rest: set[str]) -> bool:
        """Return whether a checkpoint has adapters of `rest` and is past no kept epoch that is missing.

        An epoch that the study has come to keep since then is reached by training from the beginning.
        """
        kept = [
            (epoch, dose)
            for key in state.keys
            for task in self.tasks.with_key(key)
            for epoch, dose in self.tasks.kept_epochs(task).items()
        ]
        missing = [e for e, dose in kept if e <= state.epoch and not self.run.store.done(dose.artefact)]
        return bool(set(state.keys) & rest) and not missing

    def _as_before(self, stack: list[str]) -> bool:
        """Return whether these adapters were trained as one stack before, and some of them were lost."""
        tasks = [t for t in self.tasks.trained if t.key in stack]
        markers = [self.run.store.marker(t.artefact) for t in tasks]
        return any(m is not None and list(m.get("stack", ())) == stack for m in markers)

    def _size(self, shape: Stack, job: AdapterJob, recipe: Recipe) -> int:
        """Return how many adapters like `job` fit into the next stack."""
        model, training = self.run.loaded.model, self.run.study.training
        if training.stack != "auto":
            return self.sizes.within_limit(training.stack)
        peak = peak_of(model.device)
        if peak is not None and not self.sizes.measured(recipe):
            with packing(model), recomputing(model, training.checkpointing):
                try:
                    need = measure(model, training.lora, job, recipe, training.row_tokens, peak)
                except OutOfMemory:
                    return 1
            free_device_memory()
            self.sizes.note_need(recipe, need)
        most = bound(shape, [job], recipe, training.row_tokens, training.checkpointing)
        return self.sizes.size(most, recipe, model.device)

    def _job(self, task: AdapterTask, shape: Stack, tokenize: Tokenizer) -> AdapterJob:
        """Return the tokenized examples and initial weights of an adapter."""
        run = self.run
        parts, dropped, recipe = {}, 0, run.plan.recipe(task.plan)
        for split in ("train", "valid"):
            examples = examples_of(run, task, split)
            parts[split], too_long = tokenize(examples)
            if recipe.texts == 2:
                parts[split] = whole_pairs(parts[split])
            dropped += len(too_long)
            if split == "train" and not any(e.positive for e in examples):
                say(f"{task.label}: no argument in the training split fits this profile (stage 1)")
        if dropped:
            say(f"{task.label}: {dropped} examples longer than {tokenize.max_length} tokens are left out")
        if not parts["train"]:
            raise UserError(
                f"{task.label}: no training example fits {tokenize.max_length} tokens",
                "training",
                "raise max_length",
            )
        start = None
        if task.parent:
            start = shape.weights_from_peft(read_weights(run.store.locate(task.parent.artefact)))
        seed = run.plan.training_seed(task.plan)
        fall = fall_to_match(run) if run.plan.matches_loss(task.plan) else None
        job = AdapterJob(
            task.key, task.label, parts["train"], parts["valid"], seed, start, dropped, fall=fall
        )
        return self._guarded(job, guard_of(task.plan.arm), tokenize)

    def _guarded(self, job: AdapterJob, guard: str, tokenize: Tokenizer) -> AdapterJob:
        """Return a job with what its guard needs: safe texts, or a direction."""
        settings = self.run.study.training.guard
        if guard == "steer":
            direction, _ = self.run.plan.guard_direction
            check_shift(direction, self.run.loaded.model, settings.direction)
            return replace(job, shift=settings.strength * direction)
        if guard not in SAFE_TEXTS:
            return job
        safe, _ = tokenize(self.run.plan.safe_examples())
        if not safe:
            todo = "raise max_length of the recipe, or use another set"
            raise UserError("no safe text fits the length of the recipe", "training.guard.data", todo)
        if guard == "kl":
            return replace(job, guard=KlGuard(tuple(safe), settings.weight, settings.batch))
        return replace(job, train=interleaved(job.train, safe, settings.share, job.seed))

    def _train(
        self, tasks: list[AdapterTask], jobs: list[AdapterJob], state: TrainingState | None, recipe: Recipe
    ) -> list[TrainingState]:
        """Train a stack and store its adapters. If memory is short, return two halves to train instead."""
        run, training = self.run, self.run.study.training
        stack = Stack(run.loaded.model, training.lora, len(jobs))
        checkpoints = Checkpoints(run.store, [j.key for j in jobs], training.save_every)
        if state is None:
            state = initial_state(stack, jobs)
        elif not self.counted & set(state.keys):
            self.progress.skip(sum(_seen(state, j, recipe) for j in jobs))
        self.counted |= set(state.keys)

        live = LiveCurves(run.store, state.keys, [recipe.steps(len(j.train)) for j in jobs])

        def point(number: int, curve: str, steps: int, loss: float) -> None:
            task = tasks[number]
            live.update(state.curves)
            self.trackers.point(f"{task.label}/{task.plan.stage}", curve, steps, loss)

        def save_due() -> bool:
            return interrupt.stop_requested() or checkpoints.due()

        def save(state: TrainingState) -> None:
            checkpoints.write(state)
            if interrupt.stop_requested():
                raise interrupt.Stopped

        def epoch(state: TrainingState) -> None:
            self._store_epoch(stack, state, jobs)

        callbacks = TrainingCallbacks(
            self._step_counter(len(jobs)), save=save, save_due=save_due, epoch=epoch, point=point, say=say
        )
        ends = [run.begin_task("adapters", task.artefact) for task in tasks]

        def train() -> None:
            with (
                packing(run.loaded.model),
                stack.attached(),
                recomputing(run.loaded.model, training.checkpointing),
            ):
                train_stack(stack, state, jobs, recipe, training.row_tokens, callbacks)

        try:
            if not self._within_memory(stack, recipe, train):
                live.clear()
                return self._halve(state, checkpoints)
        except interrupt.Stopped:
            return []
        if len(jobs) > 1:  # after a kill, the adapters not yet stored must come from the same stack
            checkpoints.write(state)
        for number, (job, end) in enumerate(zip(jobs, ends, strict=True)):
            for task in self.tasks.with_key(job.key):
                self._store(stack, state, number, task, job)
            end()
        checkpoints.clear()
        live.clear()
        self.done += sum(len(self.tasks.with_key(job.key)) for job in jobs)
        return []

    def _within_memory(self, stack: Stack, recipe: Recipe, train: Callable[[], None]) -> bool:
        """Train a stack. Returns whether it fits into memory.

        When it does not, the error and the graph that it held on to are gone with this function.
        """
        peak, most_bytes = peak_of(stack.weights.device), 0
        try:
            if peak is None:
                train()
            else:
                before = 6 * stack.weights.nbytes  # weights, gradients and the state of the optimiser
                most_bytes = before + peak(train)
        except OutOfMemory:
            return False
        self.sizes.note_trained(recipe, len(stack.weights), most_bytes)
        return True

    def _halve(self, state: TrainingState, checkpoints: Checkpoints) -> list[TrainingState]:
        """Split a stack that did not fit into memory in two, each with its checkpoint.

        The halves are in the memory of this machine, so that they take nothing from the next stack.
        """
        device = state.weights.device
        halves = list(state.halves())
        for half in halves:
            Checkpoints(self.run.store, half.keys, 0).write(half)
        checkpoints.clear()
        free_device_memory()
        self.sizes.note_failed(len(state.keys), device)
        say(
            f"not enough memory for {len(state.keys)} adapters at a time; "
            f"continuing with {self.sizes.limit}"
        )
        return halves

    def _step_counter(self, stacked: int) -> Callable[[int, int], None]:
        """Return a function that counts examples and tokens of each step."""

        def step(examples: int, tokens: int) -> None:
            self.tokens += tokens
            rate = self.tokens / max(time.monotonic() - self.began, 1e-9)
            self.progress.note = (
                f"{self.done} of {len(self.tasks.trained)} adapters done, {stacked} at a time, "
                f"{rate:,.0f} tokens/s"
            )
            self.progress.tick(examples)

        return step

    def _store(
        self, stack: Stack, state: TrainingState, number: int, task: AdapterTask, job: AdapterJob
    ) -> None:
        """Store a trained adapter, or record its failure."""
        curve = state.curves[number]
        if curve.stopped:
            for lost in (task, *self.tasks.kept_epochs(task).values()):
                if not self.run.store.done(lost.artefact):
                    record_failure(self.run, lost, curve.stopped)
            return
        self._write(stack, state.best[number], task, job, curve, state.keys)

    def _store_epoch(self, stack: Stack, state: TrainingState, jobs: list[AdapterJob]) -> None:
        """Store the weights after an epoch that is kept. They are the current ones, not the best so far.

        A run that is resumed from before the epoch comes to the same weights and finds them stored.
        """
        for number, (job, curve) in enumerate(zip(jobs, state.curves, strict=True)):
            for task in self.tasks.with_key(job.key):
                dose = self.tasks.kept_epochs(task).get(state.epoch)
                if dose and not curve.stopped:
                    self._write(stack, state.weights[number], dose, job, curve, state.keys, state.epoch)

    def _write(
        self,
        stack: Stack,
        weights: torch.Tensor,
        task: AdapterTask,
        job: AdapterJob,
        curve: Curve,
        stacked: list[str],
        epoch: int | None = None,
    ) -> None:
        """Write the folder of an adapter, unless it is there.

        Args:
            stack: The stack that it was trained in.
            weights: Its weights [size].
            task: The adapter, or a dose of it.
            job: What it was trained on.
            curve: Its losses so far.
            stacked: The keys of the adapters of the stack.
            epoch: The epoch that the weights are from; the best one if None.
        """
        run, recipe = self.run, self.run.plan.recipe(task.plan)
        epoch_steps = recipe.steps(len(job.train))
        if run.store.done(task.artefact):
            return
        # Epochs after the one that matches a loss are no part of the adapter.
        epochs = recipe.epochs if job.fall is None else curve.best_epoch

        def write(folder: Path) -> dict[str, Any]:
            tensors = stack.peft_tensors(weights)
            write_adapter(folder, tensors, run.study.training.lora, run.base.name, run.base.revision)
            return {
                "stage": task.plan.stage,
                "stack": stacked,
                "examples": len(job.train),
                "left_out_too_long": job.left_out,
                "train_loss": [point for point in curve.train if point[0] <= epochs * epoch_steps],
                "valid_loss": curve.valid[:epochs],
                "epoch_steps": [epoch_steps * (epoch + 1) for epoch in range(recipe.epochs)],
                "best_epoch": epoch or curve.best_epoch,
            }

        run.store.put_folder(task.artefact, write, under="adapters")


def _seen(state: TrainingState, job: AdapterJob, recipe: Recipe) -> int:
    """Return how many examples an adapter has been trained on so far."""
    epoch_steps = recipe.steps(len(job.train))
    part = min(
        len(job.train), min(state.step, epoch_steps) * recipe.batch * recipe.accumulate * recipe.texts
    )
    return state.epoch * len(job.train) + part
