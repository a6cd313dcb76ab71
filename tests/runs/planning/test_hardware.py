"""What hardware would need for a study, by published and measured rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.dry_run_helpers import paper
from unharm.core.errors import UserError
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan
from unharm.runs.planning.device_rates import (
    DECODING_OPERATIONS,
    HOST_FACTOR,
    LAUNCH_SECONDS,
    WRITING_EFFICIENCY,
    ModelShape,
    Rates,
    measure_this_machine,
    model_shape,
    rates_by_sheet,
    rates_of_doctor,
)
from unharm.runs.planning.hardware import (
    estimates,
    hardware_rates,
    parameter_count,
    rates_of_run,
)
from unharm.runs.planning.summary import summary_of

SEVEN = ModelShape(7e9, 32, 4096, 4096)
H100 = {"tflops": 989.0, "bandwidth": 3350.0, "memory": 80.0}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-2-7b-hf", 7e9),
        ("google/gemma-2-2b", 2e9),
        ("Qwen/Qwen2.5-0.5B", 5e8),
        ("x/smol-135M", 135e6),
    ],
)
def test_a_base_says_its_size_by_its_name(name: str, size: float) -> None:
    assert parameter_count(name) == pytest.approx(size)


def test_a_base_of_unknown_size_or_that_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match="the size of"):
        parameter_count("org/mystery")
    with pytest.raises(UserError, match="does not fit into 24 GiB"):
        hardware_rates("l4", model_shape("org/x-70b", 70e9))
    with pytest.raises(UserError, match="unknown hardware 'h1000'") as error:
        hardware_rates("h1000", SEVEN)
    assert "h100" in str(error.value)


def test_an_estimate_by_hand() -> None:
    """One subject, one benchmark: 300 prompts of 64 new tokens, at 1,000 tokens written and 10⁶ read a second."""
    plan = Plan(paper("arms=[vanilla]", "benchmarks={hexphi: {file: none}}"), sizes_only=True)
    summary = summary_of(plan)
    from unharm.runs.planning import hardware

    row = hardware.estimate(plan, summary, Rates("x", 2, 1.0, 1e6, 1000.0, "by hand", price=3.0), 7e9, 0.0)
    seconds = (300 * 64 / 1000 + summary.prompt_tokens / 2.5 / 1e6) / 2
    assert row["hours"]["completions"] == pytest.approx(seconds / 3600, abs=0.01)
    assert row["hours"]["adapters"] == 0
    assert row["gpu_hours"] == pytest.approx(2 * seconds / 3600, abs=0.01)
    assert row["machine_cost"] == pytest.approx(2 * seconds / 3600 * 3, abs=0.02)


def test_more_and_faster_hardware_is_faster() -> None:
    plan = Plan(paper(), sizes_only=True)
    one, eight, slow = estimates(plan, summary_of(plan), ["h100", "h100x8", "a10"])
    assert eight["hours"]["completions"] == pytest.approx(one["hours"]["completions"] / 8, abs=0.01)
    assert slow["hours_in_all"] > one["hours_in_all"]
    assert eight["gpu_hours"] == pytest.approx(one["gpu_hours"], rel=0.01)
    assert one["service_cost"] > 100  # the judges of the paper


def test_hardware_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{name: mine, count: 4, tflops: 100, bandwidth: 1000, memory: 80, price: 2.5}")
    rates = hardware_rates(str(file), SEVEN)
    assert (rates.name, rates.count, rates.price) == ("mine", 4, 2.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{tflops: many}", "no number above 0 and up to 1,000,000,000 in 'tflops'"),
        ("{tflops: 0, bandwidth: 1, memory: 80}", "in 'tflops'"),
        ("{tflops: .inf, bandwidth: .nan, memory: true}", "in 'memory'"),
        ("{tflops: 1, bandwidth: 1, memory: 80, count: 0}", "in 'count'"),
        ("{tflops: 1, bandwidth: 1, memory: 80, price: -1}", "in 'price'"),
        ("[1]", "mapping"),
        ("{tflops: [", "not valid YAML"),
    ],
)
def test_a_bad_description_of_hardware(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        hardware_rates(str(tmp_path / "mine.yaml"), SEVEN)


@pytest.mark.parametrize("name", ["h100x0", f"h100x{'9' * 5000}"])
def test_a_number_of_devices_beyond_all_measure(name: str) -> None:
    with pytest.raises(UserError, match="expected a number of devices"):
        hardware_rates(name, SEVEN)


def test_this_machine_is_measured() -> None:
    rates = measure_this_machine(1, model_shape("org/x", 1e8))
    assert rates.training > 0
    assert rates.writing > 0
    assert "measured here" in rates.source


def test_a_finished_run_gives_its_own_rates(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    run = run_study(load(tiny_study))
    rates = rates_of_run(tmp_path / "run", 1)
    assert rates.writing > 0
    assert rates.training > 0
    assert rates.source == f"measured in {tmp_path / 'run'}"
    row = estimates(run.plan, summary_of(run.plan), [str(tmp_path / "run")])[0]
    stage = json.loads((tmp_path / "run" / "status.json").read_text())["stages"]["completions"]
    assert row["hours"]["completions"] * 3600 == pytest.approx(
        stage["total"] / stage["rate"], rel=0.5, abs=40
    )
    run_study(load(tiny_study))  # makes nothing any more
    with pytest.raises(UserError, match="made no completions"):
        rates_of_run(tmp_path / "run", 1)


def test_keys_and_values_limit_the_rows_that_are_decoded() -> None:
    """By hand, for rows of 1,000 tokens: 0.5 MiB a token, so 500 MiB a row."""
    rates = rates_by_sheet("x", 1, SEVEN, H100, "sheet", row_tokens=1000)
    a_row = 2 * 2 * 32 * 4096 * 1000
    rows = (0.9 * 80 * 2**30 - 14e9) // a_row
    assert 100 < rows < 140
    device = (14e9 + rows * a_row / 2) / 3350e9 / WRITING_EFFICIENCY  # reading the weights takes longest
    host = 32 * DECODING_OPERATIONS * LAUNCH_SECONDS * HOST_FACTOR
    assert rates.writing == pytest.approx(rows / (device + host))


def test_more_memory_and_bandwidth_are_faster_at_equal_arithmetic() -> None:
    h100, h200 = (hardware_rates(name, SEVEN) for name in ("h100", "h200"))
    assert h200.writing > 1.1 * h100.writing
    assert h200.training >= h100.training


def test_grouped_heads_leave_room_for_more_rows() -> None:
    grouped = ModelShape(7e9, 32, 4096, 1024)
    assert hardware_rates("h100", grouped).writing > 1.3 * hardware_rates("h100", SEVEN).writing


def test_a_small_base_waits_for_the_host() -> None:
    small = ModelShape(135e6, 30, 576, 192)
    rates = rates_by_sheet("x", 1, small, H100, "sheet", row_tokens=50)
    host = 30 * DECODING_OPERATIONS * LAUNCH_SECONDS * HOST_FACTOR
    assert 512 / (1.1 * host) < rates.writing < 512 / host
    slow_host = rates_by_sheet("x", 1, small, H100 | {"launch": 5 * LAUNCH_SECONDS}, "sheet", row_tokens=50)
    assert slow_host.writing == pytest.approx(rates.writing / 5, rel=0.1)
    assert slow_host.training < rates.training


def test_the_shape_of_a_base_comes_from_its_configuration(tiny_base: Path) -> None:
    shape = model_shape(str(tiny_base), 1e5)
    assert (shape.layers, shape.width, shape.key_width) == (2, 32, 32)
    guessed = model_shape("meta-llama/Llama-2-7b-hf", 7e9)
    assert guessed.width == pytest.approx(4096, rel=0.05)
    assert guessed.layers == pytest.approx(32, rel=0.05)


def doctor_file(folder: Path, **changes: Any) -> Path:
    record = {
        "device": {"kind": "cuda", "tflops": 600, "bandwidth": 3000, "launch_us": 6, "memory_gib": 80},
        "base": {"name": "org/x-7b", "parameters": 7e9},
        "rates": {"training": 1e4, "reading": 2e4, "writing": 3e3},
    }
    path = folder / "doctor.json"
    path.write_text(json.dumps(record | changes))
    return path


def test_the_doctor_s_rates_are_used_for_a_base_of_its_size(tmp_path: Path) -> None:
    rates = hardware_rates(f"{doctor_file(tmp_path)}x4", SEVEN)
    assert (rates.count, rates.training, rates.reading, rates.writing) == (4, 1e4, 2e4, 3e3)
    assert rates.source == "measured by unharm doctor with org/x-7b"
    other = rates_of_doctor(doctor_file(tmp_path), 1, ModelShape(135e6, 30, 576, 192))
    assert other.writing > rates.writing
    assert "assumed efficiencies" in other.source


@pytest.mark.parametrize(
    "changes", [{"device": {}}, {"rates": None}, {"base": [1]}, {"device": {"kind": "cpu", "tflops": 0}}]
)
def test_a_file_that_is_not_the_doctor_s_is_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="unharm doctor"):
        hardware_rates(str(doctor_file(tmp_path, **changes)), SEVEN)
