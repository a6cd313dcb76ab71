"""The bench of findings: what it counts, and that a stopped run goes on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.paths import ROOT


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(ROOT / "bench"))
    spec = importlib.util.spec_from_file_location("bench_findings", ROOT / "bench" / "findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_worst_regime_is_reported_and_small_counts_of_intervals_are_left_out(bench: ModuleType) -> None:
    counts = {
        "harm 1%, 1 seed": {
            "false categories": [3, 20],
            "cover a": [95, 100],
            "power": [1, 10],
            "plain": [2, 10],
        },
        "harm 10%, 1 seed": {"false categories": [1, 20], "cover a": [196, 200], "cover b": [1, 50]},
    }
    result = bench.summary(counts, 20, quick=False)
    assert result["worst_false_discovery"] == 0.15
    assert result["false_discovery_limit"] == pytest.approx(0.1475, abs=1e-4)
    assert (result["worst_coverage_low"], result["worst_coverage_high"]) == (0.95, 0.98)
    assert result["power_r04"] == {"harm 1%": 0.1}
    assert result["power_plain_permutation"] == {"harm 1%": 0.2}
    together = bench.summary(counts, 20, quick=True)
    assert (together["worst_false_discovery"], together["studies"]) == (0.1, 40)


def test_a_recorded_study_is_not_simulated_again(bench: ModuleType, tmp_path: Path) -> None:
    jobs = [job for job in bench.jobs_of(1, True, ["harm 10%, shared 50%, 1 seed"]) if job.kind == "null"]
    assert len(jobs) == 1
    record = tmp_path / "record.jsonl"
    record.write_text(json.dumps([jobs[0].key, {"false heat map": [1, 1], "cover a": [90, 100]}]) + "\n")
    result = bench.calibration(jobs, False, 1, record)
    assert (result["worst_false_discovery"], result["worst_coverage_low"], result["studies"]) == (
        1.0,
        0.9,
        1,
    )
    assert len(record.read_text().splitlines()) == 1


def test_a_study_without_an_effect_gives_a_flag_per_table(bench: ModuleType) -> None:
    regime = dict(bench.regimes(True))["harm 10%, shared 50%, 1 seed"]
    flags = bench.null_study(regime, 3)
    tables = {"categories", "whole benchmarks", "heat map", "regressions", "hypotheses"}
    assert {name for name in flags if name.startswith("false")} == {f"false {table}" for table in tables}
    assert len(flags["cover correlations"]) == 330
    assert len(flags["cover differences, category"]) == 33
