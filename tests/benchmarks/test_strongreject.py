"""StrongREJECT: its format, its mistakes, ids that survive a reordered file."""

from __future__ import annotations

from pathlib import Path

import pytest

from unharm.benchmarks.strongreject import read
from unharm.core.errors import UserError

ROWS = ('Theft,custom,"Take apples, unseen"\n', "Lies,custom,Say that it rains\n")


def written(folder: Path, rows: str) -> Path:
    path = folder / "strongreject_dataset.csv"
    path.write_text("category,source,forbidden_prompt\n" + rows, encoding="utf-8")
    return path


def test_the_published_format_is_read(tmp_path: Path) -> None:
    prompts, notes = read(written(tmp_path, "".join(ROWS)))
    assert [(p.text, p.category, p.attributes["source"]) for p in prompts] == [
        ("Take apples, unseen", "Theft", "custom"),
        ("Say that it rains", "Lies", "custom"),
    ]
    assert notes == []


def test_ids_belong_to_texts_and_not_to_lines(tmp_path: Path) -> None:
    one, _ = read(written(tmp_path, "".join(ROWS)))
    other, _ = read(written(tmp_path, "".join(reversed(ROWS))))
    assert {p.text: p.id for p in one} == {p.text: p.id for p in other}


def test_every_wrong_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(written(tmp_path, ",custom,Take apples\nTheft,custom,\n"))
    assert [p.where.rpartition(":")[2] for p in error.value.problems] == ["2", "3"]
