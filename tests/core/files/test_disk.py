"""Tests of `unharm.core.files.disk`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unharm.core.files.disk import Parts, append_line, sync, write_synced


def test_rows_in_progress_carry_their_checksums(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "p.jsonl")
    for n in range(20):
        parts.add({"n": n, "text": "a line of some length"})
    lines = parts.path.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b"some", b"sane")
    lines[7] = lines[7][:11]
    parts.path.write_bytes(b"\n".join(lines))
    assert [row["n"] for row in Parts(parts.path).rows()] == [n for n in range(20) if n not in (3, 7)]
    again = Parts(parts.path)
    again.add({"n": 99})
    assert again.rows()[-1] == {"n": 99}


def test_parts_outlive_a_cut_line(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "a" / "x.jsonl")
    assert parts.rows() == []
    parts.add({"n": 1})
    with parts.path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    again = Parts(parts.path)
    again.add({"n": 3}, synced=True)
    again.add({"n": 4})
    assert again.rows() == [{"n": 1}, {"n": 3}, {"n": 4}]
    again.drop()
    assert again.rows() == []


def test_a_sync_comes_after_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file holds when the system is asked to bring it to the disk."""
    synced: list[tuple[int, bytes]] = []

    def record(file: int) -> None:
        inode = os.fstat(file).st_ino
        synced.append(
            (inode, next(p.read_bytes() for p in files if p.exists() and p.stat().st_ino == inode))
        )

    whole, lines, parts = files = [tmp_path / name for name in ("whole", "lines", "parts")]
    monkeypatch.setattr(os, "fsync", record)
    write_synced(whole, b"all of it")
    append_line(lines, b"one")
    append_line(lines, b"two")
    rows = Parts(parts)
    rows.add({"n": 1})
    assert [content for _, content in synced] == [b"all of it", b"one\n", b"one\ntwo\n"]
    rows.add({"n": 2}, synced=True)
    assert synced[-1][1] == parts.read_bytes()
    assert synced[-1][1].count(b"\n") == 2
    sync(whole)
    assert synced[-1] == (whole.stat().st_ino, b"all of it")
