"""Profiles: the extremes and tables of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.profiles_helpers import HEADER, write
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.profiles.table import read_profiles


def test_yaml_profiles(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    good = dict.fromkeys(VALUES, 3)
    path.write_text(yaml.safe_dump({"calm": good | {"security": 5.5}}))
    assert read_profiles(path)[0]["security"] == 5.5
    nine = dict.fromkeys(VALUES[:9], 3)
    path.write_text(
        yaml.safe_dump(
            {"nine": nine, "wild": good | {"power": 7}, "odd": good | {"bravery": 2}, "none": None}
        )
        + "twice: {power: 1, power: 2}\n"
    )
    with pytest.raises(UserError) as caught:
        read_profiles(path)
    told = str(caught.value)
    for part in (
        "nine: the value 'universalism' is missing", "wild: power is 7", "unknown value 'bravery'",
        "none: expected ten values", "the field 'power' is given twice",
    ):  # fmt: skip
        assert part in told


def test_a_value_with_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("name," + ",".join(VALUES) + ",Power\nx" + ",1" * 11 + "\n")
    with pytest.raises(UserError, match="the value 'power' has two columns"):
        read_profiles(path)


def test_a_table_with_hard_names_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", '"Ana María, 3",1,2,3,4,5,6,1,2,3,4.5', "../x,1,1,1,1,1,1,1,1,1,1")
    profiles = read_profiles(path)
    assert [p.name for p in profiles] == ["Ana María, 3", "../x"]
    assert profiles[0]["universalism"] == 4.5


def test_all_wrong_rows_are_told_together(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.csv",
        "a,1,1,1,1,1,1,1,1,1,7",
        "b,1,1,1,1,x,1,1,1,1,1",
        "b2,1,1,1",
        "c,1,1,1,1,1,1,1,1,1,nan",
        "d,1,1,1,1,1,1,1,1,1,1",
        "d,1,1,1,1,1,1,1,1,1,1",
        ",1,1,1,1,1,1,1,1,1,1",
    )
    with pytest.raises(UserError) as caught:
        read_profiles(path)
    told = str(caught.value)
    assert f"{path}:2: universalism of 'a' is '7'" in told
    assert f"{path}:3: power of 'b' is 'x'" in told
    assert f"{path}:4: 4 fields where the header has 11" in told
    assert f"{path}:5: universalism of 'c' is 'nan'" in told
    assert f"{path}:7: the profile 'd' is given twice" in told
    assert f"{path}:8: a profile without a name" in told
    assert "expected a number from 1 to 6" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        (HEADER.replace("power", "pouvoir") + "\n", "the column 'power' is missing"),
        (HEADER.replace(",", "|") + "\n", "is the delimiter another one?"),
        (HEADER + "\n", "this file has no profile"),
    ],
)
def test_a_wrong_file(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        read_profiles(path)


def test_bom_tabs_and_capital_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    text = HEADER.replace(",", "\t").title() + "\nx" + "\t3" * 10 + "\n"
    path.write_text(text, encoding="utf-8-sig")
    assert read_profiles(path)[0].importances == (3.0,) * 10


def test_only_the_named_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "a,1,1,1,1,1,1,1,1,1,1", "b,2,2,2,2,2,2,2,2,2,2")
    assert [p.name for p in read_profiles(path, ["b"])] == ["b"]
    with pytest.raises(UserError, match="no profile named 'c'"):
        read_profiles(path, ["c"])
