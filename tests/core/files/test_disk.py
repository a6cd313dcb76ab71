"""Tests of `unharm.core.files.disk`."""

from __future__ import annotations

from pathlib import Path

from unharm.core.files.disk import Parts


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
