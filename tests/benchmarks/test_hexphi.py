"""Tests of `unharm.benchmarks.hexphi`."""

from __future__ import annotations

from pathlib import Path

from unharm.benchmarks.registry import load_prompts


def test_hexphi_notes_a_missing_category_but_not_the_withdrawn_one(tmp_path: Path) -> None:
    for number in (1, 3, 4, 5, 6, 7, 8, 9, 11):
        (tmp_path / f"category_{number}_c{number}.csv").write_text(f'"q, of {number}"\n')
    found = load_prompts("hexphi", tmp_path, None, 0)
    assert [p.id for p in found.prompts][:2] == ["hexphi-1-0", "hexphi-3-0"]
    assert found.prompts[0].text == "q, of 1"
    assert found.notes == ["category 10 has no file"]
