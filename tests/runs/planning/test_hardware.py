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
from unharm.runs.planning.hardware import (
    Rates,
    estimates,
    hardware_rates,
    measure_this_machine,
    parameter_count,
    rates_of_run,
)
from unharm.runs.planning.summary import summary_of


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
        hardware_rates("l4", 70e9)
    with pytest.raises(UserError, match="unknown hardware 'h1000'") as error:
        hardware_rates("h1000", 7e9)
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
    rates = hardware_rates(str(file), 7e9)
    assert (rates.name, rates.count, rates.price) == ("mine", 4, 2.5)
    file.write_text("{name: mine, tflops: many}")
    with pytest.raises(UserError, match="not a description of hardware"):
        hardware_rates(str(file), 7e9)


def test_this_machine_is_measured() -> None:
    rates = measure_this_machine(1, 1e8)
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
