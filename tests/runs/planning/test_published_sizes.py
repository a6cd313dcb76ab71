"""Tests of `unharm.runs.planning.published_sizes`."""

from __future__ import annotations

from pathlib import Path

from support.dry_run_helpers import PAPER, paper
from unharm.runs.plan import Plan
from unharm.runs.planning.summary import summary_of
from unharm.study.check import load_study


def test_the_papers_plan_has_its_size_without_its_data() -> None:
    plan = Plan(paper("arms=[vanilla, vim]", "samples={vanilla: 1}"), sizes_only=True)
    summary = summary_of(plan)
    assert summary.profiles == 154
    assert len({p.name for p in plan.profiles}) == 154
    assert len({p.importances for p in plan.profiles}) == 154
    counts = {row.benchmark: row.completions // summary.subjects for row in summary.benchmarks}
    assert counts == {"rtp": 30_000, "hbr": 17_700, "hexphi": 300, "beavertails": 700, "questionnaire": 40}
    assert all("planned at the published size" in note for row in summary.benchmarks for note in row.notes)


def test_data_that_are_there_are_counted_themselves(real_data: Path) -> None:
    plan = Plan(load_study(PAPER, [f"data={real_data}"], data_needed=False), sizes_only=True)
    rows = {row.benchmark: row for row in summary_of(plan).benchmarks}
    assert rows["hbr"].prompts == 17_700
    assert not any("published size" in note for note in rows["hbr"].notes)
    assert any("published size" in note for note in rows["hexphi"].notes)  # gated: nobody has it here
    assert len(plan.profiles) == 154
    assert all(p.source != "placeholder" for p in plan.profiles)
