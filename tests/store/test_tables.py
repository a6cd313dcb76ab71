"""Tables as CSV: nothing in them acts on a terminal or a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from unharm.store.tables import csv_bytes, read_csv


def test_control_characters_are_spelled_out_and_formulas_come_back(tmp_path: Path) -> None:
    texts = ["\x1b[2J", "\u202eab", "=1+1", "a\nb", "-0.5", "\x00"]
    file = tmp_path / "table.csv"
    file.write_bytes(csv_bytes(pl.DataFrame({"text": texts, "n": range(6)})))
    assert b"\x1b" not in file.read_bytes()
    assert b"'=1+1" in file.read_bytes()
    read = read_csv(file, {"text": pl.String, "n": pl.Int64})["text"].to_list()
    assert read == ["\\u001b[2J", "\\u202eab", "=1+1", "a\nb", "-0.5", "\\u0000"]
