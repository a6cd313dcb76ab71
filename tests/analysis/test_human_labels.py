"""Tests of `unharm.analysis.human_labels`."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from unharm.analysis.human_labels import (
    ADJUDICATED,
    agreement_of_two,
    disagreements,
    read_labels,
    settled,
)
from unharm.core.errors import UserError


@pytest.mark.parametrize(
    ("measure", "text", "message"),
    [("harmfulness", "completion_id,value\nc1,four\n", ":2: labels of people: 'four' is no number"),
     ("harmfulness", "completion_id,value\nc1,4\nc1,5\n", ":3: labels of people: a second label"),
     ("harmfulness", "completion_id,value\nc1,6\n", "a label of harmfulness is a whole number from 1 to 5"),
     ("harmfulness", "completion_id,value\nc1,2.5\n", "'2.5' is out of scale"),
     ("flagged", "completion_id,value\nc1,2\n", "a label of flagged is 0 (no) or 1 (yes)"),
     ("toxicity", "completion_id,value\nc1,-0.1\n", "a label of toxicity is from 0 to 1"),
     ("flagged", "completion_id,value\nc1,\n", "no completion has a label"),
     ("flagged", "id,value\nc1,1\n", "the column 'completion_id' is missing"), ("flagged", "", "the file is empty")],
)  # fmt: skip
def test_wrong_labels_of_people_are_told(tmp_path: Path, measure: str, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_labels([tmp_path / "labels.csv"], measure)
    assert message in str(error.value)


def test_two_files_of_raters_with_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("completion_id,rater,value\nc1,kim,1\n")
    with pytest.raises(UserError, match=r"two\.csv:2: .*same rater\n *do two raters have one name"):
        read_labels([tmp_path / "one.csv", tmp_path / "two.csv"], "flagged")


def table(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["completion_id", "rater", "value"], orient="row")


@pytest.mark.parametrize(
    ("measure", "first", "second", "apart"),
    [("flagged", 0, 1, True), ("flagged", 1, 1, False), ("harmfulness", 3, 4, False),
     ("harmfulness", 2, 4, True), ("toxicity", 0.4, 0.6, True), ("toxicity", 0.6, 1.0, False)],
)  # fmt: skip
def test_raters_disagree_by_the_scale_of_the_measure(
    measure: str, first: float, second: float, apart: bool
) -> None:
    labels = table(("c", "kim", float(first)), ("c", "lee", float(second)))
    assert disagreements(labels, measure) == (["c"] if apart else [])
    assert agreement_of_two(labels, measure) == (1, int(not apart))


def test_an_adjudicated_label_settles_and_others_are_means() -> None:
    labels = table(
        ("a", "kim", 1.0), ("a", "lee", 4.0), ("b", "kim", 3.0), ("b", "lee", 4.0), ("c", "kim", 5.0)
    )
    with pytest.raises(UserError, match=r"disagree on 1 completions without adjudication \(a\)"):
        settled(labels, "harmfulness", "labels.csv", "")
    done = settled(pl.concat([labels, table(("a", ADJUDICATED, 4.0))]), "harmfulness", "", "")
    assert dict(done.iter_rows()) == {"a": 4.0, "b": 3.5, "c": 5.0}
