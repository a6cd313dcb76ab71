"""Tests of `unharm.runs.planning.rehearsal`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from support.commands import forked_workers
from support.dry_run_helpers import paper
from unharm.core.pace import Dry
from unharm.runs.planning.rehearsal import rehearsal_text, rehearse


def small(tmp_path: Path, *changes: str) -> Any:
    few = "{rtp: {file: a, limit: 30}, hbr: {file: b, limit: 200}, questionnaire: {file: c, key: pvq40}}"
    return paper(
        f"benchmarks={few}", "profiles=[{extreme: [power, security, hedonism]}]", "arms=[vanilla, icl, vim]",
        "engine.shard=64", "corpus.limit=50", "executor.cpus=1", *changes,
    )  # fmt: skip


def test_a_dry_run_with_faults_accounts_for_every_completion(tmp_path: Path) -> None:
    told = rehearse(small(tmp_path), Dry(faults=0.3), tmp_path / "run")
    subjects, each = 7, 30 * 10 + 200 + 40
    assert told.subjects == subjects
    assert told.completions == told.scored == subjects * each
    assert told.failed_for_good == 0
    completions = pl.read_parquet(tmp_path / "run" / "completions" / "**" / "*.parquet")
    assert completions["completion_id"].n_unique() == completions.height == subjects * each
    assert set(completions["status"]) == {"completed"}
    assert told.cost_per_completion_ms > 0
    assert "7 subjects" in rehearsal_text(told)
    repeated = completions.group_by("prompt_id", "text").len().filter(pl.col("len") > 1)
    assert repeated.height > 100  # as at a low temperature


def test_a_dry_run_leaves_the_same_whoever_does_it(tmp_path: Path) -> None:
    rehearse(small(tmp_path, "executor.workers=1"), Dry(faults=0.2), tmp_path / "one")
    with forked_workers():
        rehearse(small(tmp_path, "executor.workers=2"), Dry(), tmp_path / "two")
    assert len(list((tmp_path / "two").glob("journal-*.jsonl"))) >= 2  # each worker has written its own
    for part in ("completions", "scores", "findings"):
        one = {
            f.relative_to(tmp_path / "one"): f.read_bytes() for f in (tmp_path / "one" / part).rglob("*.*")
        }
        two = {
            f.relative_to(tmp_path / "two"): f.read_bytes() for f in (tmp_path / "two" / part).rglob("*.*")
        }
        assert one == two


def test_a_dry_run_keeps_to_its_rates(tmp_path: Path) -> None:
    import time

    from unharm.scoring.fake import DryScorer
    from unharm.scoring.texts import Text

    scorer = DryScorer(Dry(scorer_rate=400.0), "harmfulness")
    began = time.monotonic()
    scores = scorer([Text(f"{n:020x}", "", "a", "a") for n in range(200)])
    assert 0.4 < time.monotonic() - began < 2
    assert Counter(s.value for s in scores).keys() <= {1.0, 2.0, 3.0, 4.0, 5.0}
