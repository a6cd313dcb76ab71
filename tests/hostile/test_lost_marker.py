"""An adapter whose marker is lost is trained in its stack again: the same bytes, nothing made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostile.harness import files_of
from unharm.runs.pipeline import run_study


def test_the_same_adapter_comes_back(load: Any, tiny_study: dict[str, Any]) -> None:
    tiny_study["arms"] = ["vanilla", "vim-qa"]
    tiny_study["benchmarks"] = {"rtp": {"file": "rtp.csv", "limit": 2, "samples": 1, "max_tokens": 2}}
    root = Path(tiny_study["output"])
    run_study(load(tiny_study))
    kinds = ("adapters", "completions", "scores", "findings")
    before = {n: d for n, d in files_of(root).items() if n.startswith(kinds)}
    markers = sorted((root / ".done" / "adapters").glob("vim-qa*.json"))
    assert len(markers) == 3
    markers[1].unlink()
    run_study(load(tiny_study))
    assert markers[1].exists()
    assert {n: d for n, d in files_of(root).items() if n.startswith(kinds)} == before


def test_what_an_unfinished_run_needs_is_gone_after_success(load: Any, tiny_study: dict[str, Any]) -> None:
    tiny_study["arms"] = ["vanilla"]
    tiny_study["benchmarks"] = {"rtp": {"file": "rtp.csv", "limit": 2, "samples": 1, "max_tokens": 2}}
    root = Path(tiny_study["output"])
    run_study(load(tiny_study))
    assert not [p for p in root.rglob("*") if p.is_dir() and not any(p.iterdir())]
    assert not {".tmp", ".parts", "checkpoints"} & {p.name for p in root.iterdir()}
