"""Survey respondents: coding, deletion, group means, and the counts of the ESS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.survey_helpers import ITEMS, answers, survey
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.profiles.survey import group_means, load_items, read_survey


def test_coding_is_turned_around_unless_as_published(tmp_path: Path) -> None:
    path = survey(tmp_path / "s.csv", [answers(power=1, security=6)])
    person = dict(zip(VALUES, read_survey(path, ITEMS).importances[0], strict=True))
    assert (person["power"], person["security"], person["hedonism"]) == (6, 1, 4)
    published = read_survey(path, ITEMS, as_published=True).importances[0]
    assert published[VALUES.index("power")] == 1


def test_missing_answers_drop_the_respondent_and_repeats_the_vector(tmp_path: Path) -> None:
    rows = [
        answers(),
        answers(power=77),
        answers(power=5),
        answers(),
        answers(hedonism=2),
        ["", *answers()[1:]],
    ]
    found = read_survey(survey(tmp_path / "s.csv", rows), ITEMS)
    assert (found.read, found.complete, len(found.importances)) == (6, 4, 3)
    assert found.rows.tolist() == [0, 2, 4]


def test_ipsatised_scores_are_centred_on_each_respondent(tmp_path: Path) -> None:
    path = survey(tmp_path / "s.csv", [answers(power=2, security=4)])
    found = read_survey(path, ITEMS, ipsatise=True).importances[0]
    assert found.mean() == pytest.approx(3.5)
    assert found[VALUES.index("power")] - found[VALUES.index("security")] == pytest.approx(2)


def test_group_means(tmp_path: Path) -> None:
    rows = [answers(power=1), answers(power=3), answers(power=5), answers(power=5)]
    path = survey(tmp_path / "s.csv", rows, {"cntry": ["B", "A", "B", "B"]}, sep=";")
    means = group_means(read_survey(path, ITEMS, group="cntry"))
    assert {name: (mean[VALUES.index("power")], n) for name, (mean, n) in means.items()} == {
        "A": (4.0, 1), "B": (pytest.approx((6 + 2 + 2) / 3), 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([answers(power=8)], "have the codes 8"),
        ([answers(power=0)], "list further missing codes under `missing`"),
        ([["x", *answers()[1:]]], "answers are not numbers"),
    ],
)
def test_codes_that_do_not_fit(tmp_path: Path, rows: list[list[object]], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        read_survey(survey(tmp_path / "s.csv", rows), ITEMS)
    assert "s.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        ("a|b\n1|2\n", "a single column means another delimiter"),
        ("idno,x\n1,2\n", "21 of 21"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=told):
        read_survey(path, ITEMS)


def test_an_item_map_of_ones_own(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "values": {v: [f"q_{v}"] for v in VALUES}, "lowest": 0, "highest": 10, "reversed": False, "missing": [-1],
    }  # fmt: skip
    path = tmp_path / "items.yaml"
    path.write_text(yaml.safe_dump(data))
    table = tmp_path / "s.csv"
    table.write_text(
        ",".join(f"q_{v}" for v in VALUES) + "\n" + ",".join(["10"] + ["0"] * 9) + "\n-1" + ",5" * 9 + "\n"
    )
    found = read_survey(table, load_items(str(path)))
    assert found.importances.tolist() == [[6.0] + [1.0] * 9]
    data["values"] |= {"power": "q", "bravery": ["x"]}
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError) as caught:
        load_items(str(path))
    assert "values.power" in str(caught.value)
    assert "unknown value 'bravery'" in str(caught.value)


def test_reference_counts_of_the_ess(real_data: Path) -> None:
    found = read_survey(real_data / "ess" / "ess.csv", ITEMS)
    assert (found.read, found.complete, len(found.importances)) == (22_190, 20_587, 20_466)
    assert found.importances.min() >= 1
    assert found.importances.max() <= 6
