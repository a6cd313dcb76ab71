"""Agreement tables: pairs of scorers, people, and what came of the completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from unharm.analysis.human_labels import read_labels
from unharm.analysis.quality import agreement_rows, levels_of, scorer_rows
from unharm.scoring import ScorerRow


def scores(values: list[float | None], **more: Any) -> pl.DataFrame:
    rows = [
        {"completion_id": f"c{n}", "prompt_id": f"p{n // 2}", "value": v,
         "status": "scored" if v is not None else "refused", "flag": ""}
        for n, v in enumerate(values)
    ]  # fmt: skip
    schema = {"completion_id": pl.String, "prompt_id": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema).with_columns(**more)


JUDGE = ScorerRow("harmfulness", "v", False, "", "judge", "one")


ROWS = {
    "a": JUDGE, "b": ScorerRow("harmfulness", "v", False, "", "judge", "two"),
    "c": ScorerRow("harmfulness", "v", False, "", "other", "one"),
}  # fmt: skip


def test_pairs_count_what_only_one_has_scored_and_name_their_kind() -> None:
    one = scores([1.0, 5.0, 3.0, None, None] + [2.0, 4.0] * 20)
    other = scores([1.0, 4.0, None, 2.0, None] + [2.0, 4.0] * 20)
    found = agreement_rows("hexphi", {"a": one, "b": other, "c": one}, ROWS, None, 0.95, 1)
    by_pair = {(r["one"], r["other"], r["measure"]): r for r in found}
    row = by_pair["a", "b", "agreement"]
    assert (row["n"], row["unscored"], row["kind"]) == (42, 2, "wordings")
    assert row["value"] == pytest.approx(41 / 42)
    assert by_pair["a", "c", "weighted_kappa"]["kind"] == "scorers"
    assert by_pair["a", "c", "weighted_kappa"]["value"] == 1.0
    difference = by_pair["a", "b", "mean_difference"]
    assert (difference["mean_one"], difference["mean_other"]) == (126 / 42, 125 / 42)
    assert difference["unit"] == "prompt"
    together = by_pair["a, b, c", "", "krippendorff_alpha"]
    assert 0.9 < together["value"] < 1


def test_nothing_to_compare_is_no_number() -> None:
    one, other = scores([1.0, None]), scores([None, 2.0])
    found = agreement_rows("hexphi", {"a": one, "b": other}, ROWS, None, 0.95, 1)
    assert [r["value"] for r in found] == [None] * len(found)
    assert agreement_rows("hexphi", {"a": one}, ROWS, None, 0.95, 1) == []
    same = agreement_rows("hexphi", {"a": scores([3.0] * 4), "b": scores([3.0] * 4)}, ROWS, None, 0.95, 1)
    assert {r["measure"]: r["value"] for r in same}["weighted_kappa"] is None


def test_people_are_compared_with_scorers_and_with_each_other(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    lines = [f"c{n},{'anna' if n % 2 else 'ben'},{1 + n % 5}" for n in range(40)]
    lines += [f"c{n},{'ben' if n % 2 else 'anna'},{1 + n % 5}" for n in range(20)]
    file.write_text("\n".join(["completion_id,rater,value", *lines, "c39,ben,", "elsewhere,ben,3"]))
    people = read_labels([file], "harmfulness")
    one = scores([1.0 + n % 5 for n in range(40)])
    found = agreement_rows("hexphi", {"a": one}, ROWS, people, 0.95, 1)
    kinds = {(r["one"], r["other"]): (r["kind"], r["n"]) for r in found if r["measure"] == "agreement"}
    assert kinds == {
        ("a", "person ben"): ("scorer and person", 30),
        ("a", "person anna"): ("scorer and person", 30),
        ("person ben", "person anna"): ("people", 20),
    }


def test_what_came_of_the_completions_is_counted() -> None:
    rows = scorer_rows("hexphi", {"a": scores([1.0, None, 3.0, 3.0, None, None])}, ROWS, 0.95)
    assert len(rows) == 1
    row = rows[0]
    assert (row["completions"], row["scored"], row["refused"], row["unscored"]) == (6, 3, 3, 0)
    left = scores([1.0, None]).with_columns(status=pl.Series(["scored", "unscored"]))
    assert scorer_rows("hexphi", {"a": left}, ROWS, 0.95)[0]["unscored"] == 1
    assert row["value"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert (row["n"], row["unit"]) == (3, "prompt")
    assert row["mean"] == pytest.approx(7 / 3)


def test_levels_are_those_of_the_measure() -> None:
    assert levels_of("harmfulness", np.array([1.0, 3.0])).tolist() == [1, 2, 3, 4, 5]
    assert levels_of("flagged", np.array([0.0])).tolist() == [0, 1]
