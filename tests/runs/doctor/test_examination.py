"""The doctor on a CPU, with a tiny base: every check, the file, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from unharm.cli.app import app
from unharm.runs.doctor import generation_checks, training_checks
from unharm.runs.doctor.examination import Examination, examine
from unharm.runs.doctor.findings import Finding, worst

CHECKS = [
    "versions", "devices", "memory", "disk", "speed", "hub", "keys", "base", "training", "fifty steps",
    "generation", "out of memory", "one process",
]  # fmt: skip


@pytest.fixture(scope="module")
def examined(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_TOKEN", "hf_secret_of_this_test")
        patched.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        patched.setattr(training_checks, "STEPS", 4)
        patched.setattr(generation_checks, "MOST_TOKENS", 4)
        out = tmp_path_factory.mktemp("doctor") / "doctor.json"
        record = examine(str(tiny_base), "cpu", out, lines.append)
    assert record == json.loads(out.read_text())
    return lines, record


def test_every_check_has_one_finding_and_a_level(examined: tuple[list[str], dict[str, Any]]) -> None:
    lines, record = examined
    assert [finding["name"] for finding in record["findings"]] == CHECKS
    assert len(lines) == len(CHECKS)
    faults = [finding for finding in record["findings"] if finding["level"] == "fault"]
    assert faults == []
    assert all(f["todo"] for f in record["findings"] if f["level"] == "warning")


def test_the_file_has_the_rates_of_the_base(examined: tuple[list[str], dict[str, Any]]) -> None:
    _, record = examined
    assert set(record["rates"]) == {"training", "reading", "writing"}
    assert all(rate > 0 for rate in record["rates"].values())
    assert record["base"]["parameters"] > 10_000
    assert record["device"]["kind"] == "cpu"
    assert record["device"]["tflops"] > 0


def test_no_key_is_shown_or_written(examined: tuple[list[str], dict[str, Any]]) -> None:
    lines, record = examined
    assert "hf_secret_of_this_test" not in "\n".join(lines) + json.dumps(record)
    assert any("HF_TOKEN set" in line for line in lines)


def test_adapters_are_trained_and_act(examined: tuple[list[str], dict[str, Any]]) -> None:
    lines, _ = examined
    training, generation = (
        next(x for x in lines if f" {name} " in x) for name in ("training", "generation")
    )
    assert "4 adapters trained together" in training
    assert "an adapter acts" in generation


def test_a_base_that_is_none_is_a_fault_and_the_machine_is_still_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unharm.runs.doctor.machine.check_hub", lambda: Finding("hub", "ok", "not asked"))
    out = tmp_path / "doctor.json"
    result = CliRunner().invoke(app, ["doctor", str(tmp_path), "--device", "cpu", "--out", str(out)])
    assert result.exit_code == 1
    assert "no readable config.json" in result.output
    assert json.loads(out.read_text())["findings"][-1]["level"] == "fault"
    assert "TFLOP/s" in result.output


def test_a_check_that_raises_is_a_fault_with_what_to_do(tmp_path: Path) -> None:
    examination = Examination("toy", "cpu", tmp_path)

    def broken() -> Finding:
        raise ZeroDivisionError("of a driver")

    finding = examination._one("speed", broken)
    assert (finding.level, finding.text) == ("fault", "ZeroDivisionError: of a driver")
    assert finding.todo


def test_levels_are_ordered() -> None:
    findings = [Finding("a", level, "") for level in ("ok", "warning", "not here")]
    assert worst(findings) == "warning"
    assert worst([]) == "ok"


def test_a_wrong_device_or_folder_is_an_error_before_any_work(tmp_path: Path) -> None:
    for arguments in (["--device", "gpu"], ["--out", str(tmp_path / "none" / "x.json")]):
        result = CliRunner().invoke(app, ["doctor", *arguments])
        assert "unknown device" in str(result.exception) or "no such folder" in str(result.exception)


@pytest.mark.parametrize(("counted", "level"), [(0, "ok"), (1, "ok"), (7, "warning")])
def test_synchronisations_of_a_step_are_counted(
    counted: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two ticks, by torch's own warnings; other warnings do not count."""
    import warnings

    modes: list[str] = []
    monkeypatch.setattr(training_checks.torch.cuda, "set_sync_debug_mode", modes.append)

    def train(run: Any, meter: training_checks.StepMeter) -> None:
        for step in range(1, 8):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1) if step == 1 else None
            for _ in range(counted if step == training_checks.WARM_UP + 1 else 0):
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
            warnings.warn("something else", stacklevel=1) if step > 3 else None
            meter.tick(8)

    monkeypatch.setattr(training_checks, "train", train)
    monkeypatch.setattr(training_checks, "adapter_tasks", lambda run: Trained())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finding = training_checks.check_step(Trained(), "cuda")  # type: ignore[arg-type]
    assert (finding.figures["syncs"], finding.level) == (counted, level)
    assert modes[:2] == ["warn", "default"]


class Trained:
    """A run and its adapters, one of which is trained."""

    def __init__(self) -> None:
        self.trained = [self]
        self.artefact = self.store = self

    def done(self, artefact: object) -> bool:
        return isinstance(artefact, Trained)
