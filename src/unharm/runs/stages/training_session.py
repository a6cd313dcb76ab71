"""One process that trains: its base is loaded once, stacks of adapters come one after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.models.memory import keep_freed_memory
from unharm.core.models.peft_folder import read_weights, write_adapter
from unharm.core.progress import Tally, say
from unharm.core.records import Example
from unharm.executors.chunks import Meter
from unharm.runs.adapters import AdapterTask, AdapterTasks, examples_of, fail
from unharm.runs.context import Run
from unharm.training.attention import check_packing, packing, recomputing
from unharm.training.checkpoints import Checkpoints, load_states
from unharm.training.loop import OutOfMemory, TrainingCallbacks, initial_state, train_stack
from unharm.training.settings import Recipe
from unharm.training.stack_size import stack_size
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob, TrainingState, steps_per_epoch
from unharm.training.tokens import Tokenizer
from unharm.training.trackers import Trackers


@dataclass
class Session:
    """The training of one process; its base is loaded once."""

    run: Run
    tasks: AdapterTasks
    progress: Meter = field(default_factory=Tally)
    done: int = 0
    limit: int = 0
    checked: set[str] = field(default_factory=set)
    tokens: int = 0
    began: float = field(default_factory=time.monotonic)
    counted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        study = self.run.study
        config = {"base": self.run.base.name, "seed": study.seed, **study.training.lora.model_dump()}
        self.trackers = Trackers(
            study.training.trackers,
            self.run.store.root / "trackers",
            study.name,
            {k: v if isinstance(v, int | float | str) else str(v) for k, v in config.items()},
        )
        keep_freed_memory()

    def make(self, stack: list[str], over: set[str]) -> None:
        """Trains the adapters of these keys, of one stage and recipe, but for those that are `over`: as one
        stack, which goes on where it was, or as several where they do not fit."""
        rest = [key for key in stack if key not in over]
        if not rest:
            return
        run, study = self.run, self.run.study
        by_key = {t.key: t for t in self.tasks.trained}
        stage, recipe = by_key[rest[0]].plan.stage, run.plan.recipe(by_key[rest[0]].plan)
        tokenize = Tokenizer(
            run.models.tokenizer, study.prompting.format, run.plan.pack.text("system"), recipe.max_length
        )
        shape = Stack(run.models.model, study.training.lora, 1)
        queue = [s for s in load_states(run.store, shape.size, stack) if set(s.keys) & set(rest)]
        begun = {key for state in queue for key in state.keys}
        rest = [key for key in rest if key not in begun]
        while (queue or rest) and not interrupt.asked():
            state = queue.pop(0) if queue else None
            stacked = state.keys if state else rest
            jobs = [self._job(by_key[stacked[0]], shape, tokenize)]
            if state is None:
                stacked = rest[: self._size(shape, jobs[0], recipe)]
                rest = rest[len(stacked) :]
            jobs += [self._job(by_key[key], shape, tokenize) for key in stacked[1:]]
            if stage not in self.checked:
                by_length = sorted(jobs[0].train, key=lambda t: len(t.ids))
                check_packing(
                    run.models.model, [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
                )
                self.checked.add(stage)
            queue += self._train([by_key[key] for key in stacked], jobs, state, recipe)

    def _size(self, shape: Stack, job: AdapterJob, recipe: Recipe) -> int:
        """How many adapters like `job` the next stack takes."""
        training = self.run.study.training
        wanted = training.stack
        if wanted == "auto":
            wanted = stack_size(shape, [job], recipe, training.row_tokens, training.checkpointing)
        return min(wanted, self.limit) if self.limit else wanted

    def _job(self, task: AdapterTask, shape: Stack, tokenize: Tokenizer) -> AdapterJob:
        """Data and first weights of an adapter."""
        run = self.run
        parts, dropped = {}, 0
        for split in ("train", "valid"):
            examples = [Example(**row) for row in examples_of(run, task, split).collect().to_dicts()]
            parts[split], too_long = tokenize(examples)
            dropped += len(too_long)
            if split == "train" and not any(e.positive for e in examples):
                say(f"{task.label}: nothing in the training part that this profile would say (stage 1)")
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
        return AdapterJob(
            task.key, task.label, parts["train"], parts["valid"], run.study.seed, start, dropped
        )

    def _train(
        self, tasks: list[AdapterTask], jobs: list[AdapterJob], state: TrainingState | None, recipe: Recipe
    ) -> list[TrainingState]:
        """Trains one stack to its end and stores it; or gives two halves, where memory was short."""
        run, training = self.run, self.run.study.training
        stack = Stack(run.models.model, training.lora, len(jobs))
        checkpoints = Checkpoints(run.store, [j.key for j in jobs], training.save_every)
        if state is None:
            state = initial_state(stack, jobs)
        elif not self.counted & set(state.keys):
            self.progress.skip(sum(_seen(state, j, recipe) for j in jobs))
        self.counted |= set(state.keys)

        def point(number: int, curve: str, steps: int, loss: float) -> None:
            task = tasks[number]
            self.trackers.point(f"{task.label}/{task.plan.stage}", curve, steps, loss)

        def save(state: TrainingState) -> None:
            if interrupt.asked():
                checkpoints.write(state)
                raise interrupt.Stopped
            checkpoints.write_if_due(state)

        callbacks = TrainingCallbacks(step=self._told(len(jobs)), save=save, point=point, say=say)
        ends = [run.begun("adapters", task.artefact) for task in tasks]
        try:
            with (
                packing(run.models.model),
                stack.attached(),
                recomputing(run.models.model, training.checkpointing),
            ):
                train_stack(stack, state, jobs, recipe, training.row_tokens, callbacks)
        except OutOfMemory:
            return self._halve(state, checkpoints)
        except interrupt.Stopped:
            return []
        if len(jobs) > 1:  # so that what is stored after a kill is of the same stack
            checkpoints.write(state)
        for number, (job, end) in enumerate(zip(jobs, ends, strict=True)):
            for task in self.tasks.with_key(job.key):
                self._store(stack, state, number, task, job)
            end()
        checkpoints.clear()
        self.done += sum(len(self.tasks.with_key(job.key)) for job in jobs)
        return []

    def _halve(self, state: TrainingState, checkpoints: Checkpoints) -> list[TrainingState]:
        """Two stacks in place of one that did not fit, each with its checkpoint."""
        halves = list(state.halves())
        for half in halves:
            Checkpoints(self.run.store, half.keys, 0).write(half)
        checkpoints.clear()
        self.limit = max(len(half.keys) for half in halves)
        say(f"not enough memory for {len(state.keys)} adapters at a time: going on with {self.limit}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return halves

    def _told(self, stacked: int) -> Callable[[int, int], None]:
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
        run, curve = self.run, state.curves[number]
        recipe = run.plan.recipe(task.plan)
        own = steps_per_epoch(len(job.train), recipe.batch, recipe.accumulate)
        if curve.stopped:
            fail(run, task, curve.stopped)
            return
        if run.store.done(task.artefact):
            return

        def write(folder: Path) -> dict[str, Any]:
            tensors = stack.peft_tensors(state.best[number])
            write_adapter(folder, tensors, run.study.training.lora, run.base.name, run.base.revision)
            return {
                "stage": task.plan.stage,
                "examples": len(job.train),
                "left_out_too_long": job.left_out,
                "train_loss": curve.train,
                "valid_loss": curve.valid,
                "epoch_steps": [own * (epoch + 1) for epoch in range(recipe.epochs)],
                "best_epoch": curve.best_epoch,
            }

        run.store.put_folder(task.artefact, write, under="adapters")


def _seen(state: TrainingState, job: AdapterJob, recipe: Recipe) -> int:
    """The examples that an adapter has learnt so far."""
    own = steps_per_epoch(len(job.train), recipe.batch, recipe.accumulate)
    part = min(len(job.train), min(state.step, own) * recipe.batch * recipe.accumulate)
    return state.epoch * len(job.train) + part
