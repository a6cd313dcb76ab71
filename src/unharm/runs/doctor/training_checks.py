"""Checks of training: a step under sync debugging, fifty steps measured, and a forced out-of-memory."""

from __future__ import annotations

import contextlib
import gc
import time
import warnings
from collections.abc import Callable

import torch

from unharm.core.models.memory import free_device_memory, free_memory
from unharm.core.models.transformers import out_of_memory
from unharm.core.progress import Tally
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run
from unharm.runs.doctor.findings import Finding
from unharm.runs.doctor.trial import train
from unharm.runs.stages.training_session import Session

WARM_UP, STEPS = 3, 50
"""Steps before the measurement, and steps that are measured."""
MOST_SECONDS = 90.0
"""The measurement ends after this time, however many steps were made."""
MOST_SYNCS = 1
"""Synchronisations of a step that cost nothing that matters."""
LEAST_BUSY, LEAST_SHARE = 0.8, 0.15
"""Shares below which a GPU is used badly: of the time, and of its own matrix rate."""
WORK_PER_TOKEN = 4
"""Operations per parameter and token of plain training: forward, and backward through frozen weights."""


class Enough(Exception):
    """The measurement has seen what it wanted."""


class StepMeter(Tally):
    """Receives the progress of training and calls `on_step` with the number of each step."""

    def __init__(self, on_step: Callable[[int], None]):
        super().__init__()
        self.steps = 0
        self._on_step = on_step

    def tick(self, items: int) -> None:
        super().tick(items)
        self.steps += 1
        self._on_step(self.steps)


class SyncCounter:
    """Counts the synchronisations of host and device that torch reports between `start` and `stop`."""

    def __init__(self) -> None:
        self.count = 0
        self._stack: contextlib.ExitStack | None = None
        self._seen: list[warnings.WarningMessage] = []

    def start(self) -> None:
        """Begin to count."""
        self._stack = contextlib.ExitStack()
        self._seen = self._stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")

    def stop(self) -> None:
        """End the count. Calling it again does nothing more."""
        if self._stack is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._stack.close()
            self._stack = None
            self.count += sum("synchroniz" in str(one.message).lower() for one in self._seen)


def check_step(run: Run, device: str) -> Finding:
    """Train the trial's adapters to their end, with one step under torch's sync debugging."""
    on_gpu, counter = device.startswith("cuda"), SyncCounter()

    def on_step(step: int) -> None:
        if on_gpu and step == WARM_UP:
            counter.start()
        elif on_gpu and step == WARM_UP + 1:
            counter.stop()

    meter = StepMeter(on_step)
    try:
        train(run, meter)
    finally:
        if on_gpu:
            counter.stop()
    made = [t for t in adapter_tasks(run).trained if run.store.done(t.artefact)]
    text = f"{len(made)} adapters trained together in {meter.steps} steps"
    if not made:
        return Finding("training", "fault", text, "a base that diverges at once: try engine.dtype float32")
    if not on_gpu:
        return Finding("training", "ok", f"{text}; synchronisations: not here, a CPU has none")
    text += f"; {counter.count} synchronisations in a step"
    todo = "host and device wait for each other: `engine.device` and the version of torch may be why"
    level, todo = ("ok", "") if counter.count <= MOST_SYNCS else ("warning", todo)
    return Finding("training", level, text, todo, {"syncs": counter.count})  # type: ignore[arg-type]


def check_fifty_steps(run: Run, device: str, tflops: float) -> Finding:
    """Measure steps of training: tokens per second, the share of the matrix rate, and the gaps of the GPU.

    Args:
        run: A trial with more steps than are measured.
        device: The device.
        tflops: The device's own rate of matrix products.
    """
    session = run.cache.get(Session, lambda: Session(run, adapter_tasks(run)))
    clock: dict[str, float] = {}
    profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    on_gpu = device.startswith("cuda")

    def on_step(step: int) -> None:
        now = time.perf_counter()
        if step == WARM_UP:
            clock.update(began=now, tokens=session.tokens, step=step)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
                profile.start()
        late = now - clock.get("began", now) > MOST_SECONDS and step > clock["step"]
        if step == WARM_UP + STEPS or late:
            if on_gpu:
                torch.cuda.synchronize()
                now = time.perf_counter()
                profile.stop()
            clock.update(seconds=now - clock["began"], read=session.tokens - clock["tokens"], steps=step)
            raise Enough

    meter = StepMeter(on_step)
    try:
        train(run, meter)
    except Enough:
        pass
    else:
        raise RuntimeError(f"training ended after {meter.steps} steps, before the measurement")
    run.cache.forget(Session)
    parameters = run.loaded.model.num_parameters()
    rate, steps = clock["read"] / clock["seconds"], int(clock["steps"] - WARM_UP)
    share = WORK_PER_TOKEN * parameters * rate / (tflops * 1e12)
    text = f"{steps} steps of {clock['seconds'] / steps:.3g} s: {rate:,.0f} tokens/s"
    text += f", worth {share:.0%} of the device's matrix rate in plain training"
    figures: dict[str, float | int | str] = {"tokens_per_second": rate, "share": share, "steps": steps}
    if not on_gpu:
        return Finding("fifty steps", "ok", f"{text}; gaps: not here", figures=figures)
    events = profile.key_averages()
    busy = sum(event.self_device_time_total for event in events) / 1e6 / clock["seconds"]
    launches = sum(event.count for event in events if event.self_device_time_total) / steps
    figures |= {"busy": busy, "launches": launches, "peak_gib": torch.cuda.max_memory_allocated() / 2**30}
    text += f"; the GPU works {busy:.0%} of the time, {launches:,.0f} operations a step"
    if busy < LEAST_BUSY or share < LEAST_SHARE:
        todo = "the host sets the pace: free processors, a larger training.vim.batch or stack"
        return Finding("fifty steps", "warning", text, todo, figures)
    return Finding("fifty steps", "ok", text, figures=figures)


def check_out_of_memory(run: Run, device: str, peak: float) -> Finding:
    """Ask for more memory than there is. On a GPU, also train with half of what the stack needs.

    Args:
        run: A trial that has trained nothing yet.
        device: The device.
        peak: GiB that training needed; 0 where that was not measured.
    """
    before = free_memory(torch.device(device))
    try:
        torch.empty(1 << 50, dtype=torch.int8, device=device)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            return Finding("out of memory", "fault", f"not recognised: {type(error).__name__}", REPORT)
    else:
        return Finding("out of memory", "warning", "the machine gives memory that it does not have", LIMIT)
    free_device_memory()
    lost = (before - free_memory(torch.device(device))) / 2**30
    if not device.startswith("cuda") or not peak:
        return Finding("out of memory", "ok", "recognised, and the device goes on")
    total = torch.cuda.get_device_properties(device).total_memory
    now = torch.cuda.memory_allocated()
    torch.cuda.set_per_process_memory_fraction((now + (peak * 2**30 - now) / 2) / total)
    session = run.cache.get(Session, lambda: Session(run, adapter_tasks(run)))
    try:
        train(run, Tally())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        run.cache.forget(Session)
        gc.collect()
        free_device_memory()
    done = sum(run.store.done(t.artefact) for t in adapter_tasks(run).trained)
    most = session.sizes.limit or "all"
    text = f"with half the memory all {done} adapters were trained, {most} at a time"
    if lost > 1:
        return Finding("out of memory", "warning", f"{text}; {lost:.1f} GiB did not come back", REPORT)
    return Finding("out of memory", "ok", text)


REPORT = "report this with doctor.json"
LIMIT = "set a limit (ulimit -v, or the memory of the container), or the system ends the run without a word"
