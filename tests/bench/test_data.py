"""The bench of preprocessing prints its figures and finds the published counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.paths import ROOT
from unharm.core.values import VALUES
from unharm.corpus.labels import importance_matrix
from unharm.profiles.extreme import extreme


def test_the_bench_prints_its_figures() -> None:
    root = ROOT
    command = [sys.executable, str(root / "bench" / "data.py"), "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(result.stdout.splitlines()[-1])) == {
        "preprocess_ratio",
        "preprocess_s",
        "select_s",
    }


def test_stage_one_counts_of_the_reference(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positives then negatives, each 80/10/10: both ways of the bench give the published sizes."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import data as bench

    _, rows, _ = bench.real(real_data)
    profiles = [extreme("achievement"), extreme("self-direction")]
    expected = [(48, 6, 6, 5851, 732, 731), (125, 16, 15, 5774, 722, 722)]
    as_dicts = [{v: p[v] for v in VALUES} for p in profiles]
    labels = np.array([[r[v.capitalize()] == "1" for v in VALUES] for r in rows])
    assert bench.row_by_row(as_dicts, rows, 3.0) == expected
    assert bench.as_matrices(importance_matrix(profiles), labels, 3.0) == expected
