"""What the doctor reads off a GPU, with a stand-in for torch's counters: no machine of the tests has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from unharm.runs.doctor import training_checks
from unharm.runs.doctor.training_checks import StepMeter, check_fifty_steps, check_out_of_memory

GIB = 2**30


@dataclass
class FakeRun:
    """A run whose training makes 100 steps of 400 tokens, `seconds` each."""

    seconds: float = 0.1
    steps: int = 100
    now: float = 0.0
    tokens: int = 0
    sizes: Any = field(default_factory=lambda: SimpleNamespace(limit=2))

    def __post_init__(self) -> None:
        self.cache = SimpleNamespace(get=lambda kind, make: self, forget=lambda kind: None)
        self.loaded = SimpleNamespace(model=SimpleNamespace(num_parameters=lambda: 10**9))
        self.store = SimpleNamespace(done=lambda artefact: True)
        self.trained = [SimpleNamespace(artefact=n) for n in range(4)]

    def train(self, run: Any, meter: Any) -> None:
        for _ in range(self.steps):
            self.now += self.seconds
            self.tokens += 400
            meter.tick(8)


@dataclass
class FakeProfile:
    """What torch's profiler saw: `busy` seconds of kernels, and their number."""

    busy: float
    calls: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def key_averages(self) -> list[Any]:
        kernel = SimpleNamespace(self_device_time_total=1e6 * self.busy, count=50_000)
        return [kernel, SimpleNamespace(self_device_time_total=0, count=99_999)]


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, run: FakeRun, profile: FakeProfile) -> None:
    monkeypatch.setattr(training_checks, "train", run.train)
    monkeypatch.setattr(training_checks, "adapter_tasks", lambda run: run)
    monkeypatch.setattr(training_checks.time, "perf_counter", lambda: run.now)
    monkeypatch.setattr(training_checks.torch.profiler, "profile", lambda activities: profile)
    for name, value in {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 8 * GIB,
    }.items():
        monkeypatch.setattr(training_checks.torch.cuda, name, lambda value=value: value)


@pytest.mark.parametrize(("busy", "level"), [(4.9, "ok"), (2.0, "warning")])
def test_gaps_of_a_gpu_and_its_share_are_measured(
    monkeypatch: pytest.MonkeyPatch, busy: float, level: str
) -> None:
    """50 steps of 0.1 s and 400 tokens: 4,000 tokens/s, of 10⁹ parameters and 50 TFLOP/s 32 %."""
    run, profile = FakeRun(), FakeProfile(busy)
    on_a_gpu(monkeypatch, run, profile)
    finding = check_fifty_steps(run, "cuda", 50.0)  # type: ignore[arg-type]
    figures = finding.figures
    assert profile.calls == ["start", "stop"]
    assert figures["tokens_per_second"] == pytest.approx(4000)
    assert figures["share"] == pytest.approx(0.32)
    assert figures["busy"] == pytest.approx(busy / 5)
    assert (figures["launches"], figures["peak_gib"]) == (1000, 8.0)
    assert (finding.level, bool(finding.todo)) == (level, level == "warning")


def test_a_slow_machine_is_measured_for_a_time_not_for_fifty_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(seconds=40.0)
    on_a_gpu(monkeypatch, run, FakeProfile(0.0))
    finding = check_fifty_steps(run, "cpu", 0.1)  # type: ignore[arg-type]
    assert finding.figures["steps"] == 3
    assert "gaps: not here" in finding.text


def test_training_that_ends_before_the_measurement_is_no_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = FakeRun(steps=10)
    on_a_gpu(monkeypatch, run, FakeProfile(0.0))
    with pytest.raises(RuntimeError, match="ended after 10 steps"):
        check_fifty_steps(run, "cpu", 0.1)  # type: ignore[arg-type]


def test_half_of_the_memory_of_the_stack_is_left_and_then_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 GiB are held, the stack needed 8: 5 of 20 GiB are left to it while it trains."""
    run, shares = FakeRun(), []
    on_a_gpu(monkeypatch, run, FakeProfile(0.0))
    cuda = training_checks.torch.cuda
    monkeypatch.setattr(training_checks.torch, "device", str)
    monkeypatch.setattr(training_checks.torch, "empty", too_much)
    monkeypatch.setattr(training_checks, "free_memory", lambda device: 10 * GIB)
    monkeypatch.setattr(training_checks, "free_device_memory", lambda: None)
    monkeypatch.setattr(
        cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=20 * GIB)
    )
    monkeypatch.setattr(cuda, "memory_allocated", lambda: 2 * GIB)
    monkeypatch.setattr(cuda, "set_per_process_memory_fraction", shares.append)
    finding = check_out_of_memory(run, "cuda", 8.0)  # type: ignore[arg-type]
    assert shares == [pytest.approx(0.25), 1.0]
    assert (finding.level, finding.text) == (
        "ok", "with half the memory all 4 adapters were trained, 2 at a time",
    )  # fmt: skip


def too_much(*size: int, **settings: Any) -> None:
    raise training_checks.torch.OutOfMemoryError("CUDA out of memory")


def test_steps_are_counted_with_their_items() -> None:
    seen: list[int] = []
    meter = StepMeter(seen.append)
    meter.tick(8)
    meter.tick(4)
    assert (seen, meter.take().made) == ([1, 2], 12)
