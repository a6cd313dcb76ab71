"""Tests of `unharm.analysis.human_labels`."""

from __future__ import annotations

from pathlib import Path

import pytest

from unharm.analysis.human_labels import read_people
from unharm.core.errors import UserError


@pytest.mark.parametrize(
    ("text", "what"),
    [("completion_id,value\nc1,four\n", ":2: labels of people: 'four' is no number"),
     ("completion_id,value\nc1,4\nc1,5\n", ":3: labels of people: a second label"),
     ("id,value\nc1,4\n", "the column 'completion_id' is missing"), ("", "the file is empty")],
)  # fmt: skip
def test_wrong_labels_of_people_are_told(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_people(tmp_path / "labels.csv")
    assert what in str(error.value)
