"""Tests of `unharm.store.journal`."""

from __future__ import annotations

from pathlib import Path

from unharm.store.store import Store


def test_a_cut_line_of_the_journal_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "j.jsonl").write_text('{"a": 1}\n{"b"')
    Store(tmp_path).append_line("j.jsonl", "{}")
    Store(tmp_path).append_line("j.jsonl", "{}")
    assert (tmp_path / "j.jsonl").read_text() == '{"a": 1}\n{"b"\n{}\n{}\n'
