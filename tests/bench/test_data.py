"""The bench of data preparation prints its figures; the published counts of stage 1 are found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT
from unharm.corpus.labels import importance_matrix, label_matrix, would_say_matrix
from unharm.corpus.valueeval import read_arguments
from unharm.profiles.extreme import extreme


def test_the_bench_prints_its_figures() -> None:
    command = [sys.executable, str(ROOT / "bench" / "data.py"), "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(result.stdout.splitlines()[-1])
    assert set(figures) == {"examples_ratio", "examples_s", "plain_cpu_s", "ours_cpu_s", "select_s"}
    assert figures["examples_ratio"] > 1


def bounds(n: int) -> tuple[int, int, int]:
    """Sizes of train, valid and test as published: 80 %, then half of the rest."""
    first = round(0.8 * n)
    second = round(0.5 * (n - first))
    return first, second, n - first - second


def test_stage_one_counts_of_the_reference(real_data: Path) -> None:
    """Positives then negatives, each 80/10/10, for two extremes."""
    arguments = read_arguments(real_data / "touche23" / "valueEval_10.csv")
    profiles = [extreme("achievement"), extreme("self-direction")]
    would = would_say_matrix(importance_matrix(profiles), label_matrix(arguments), 3.0)
    counts = [(*bounds(int(row.sum())), *bounds(int((~row).sum()))) for row in would]
    assert counts == [(48, 6, 6, 5851, 732, 731), (125, 16, 15, 5774, 722, 722)]
