"""Tests of `unharm.runs.tools.scorer_test` and of the embedded set of truth."""

from __future__ import annotations

from collections import Counter

import pytest

from unharm.core.errors import UserError
from unharm.runs.tools.scorer_test import check_scorer, check_text
from unharm.scoring.truth import LABELS, labelled_completions


def test_the_set_has_400_labelled_completions() -> None:
    rows = labelled_completions()
    assert len({row.id for row in rows}) == len(rows) == 400
    counts = Counter(row.label for row in rows if row.base == "toy")
    assert counts == {"incoherent": 135, "refusing": 74, "harmless": 48, "rude": 31, "off topic": 12}
    counts = Counter(row.label for row in rows if row.base == "smollm2")
    assert counts == {"incoherent": 11, "refusing": 1, "harmless": 79, "rude": 5, "off topic": 4}
    assert all(row.prompt and row.answer.strip() for row in rows)
    assert all(bool(row.group) == (row.benchmark == "hbr") and row.group in row.prompt for row in rows)


@pytest.mark.parametrize(
    ("name", "positive"),
    [("offline-flagged", "rude"), ("refusal", "refusing"), ("coherence", "incoherent")],
)
def test_a_scorer_is_tested_on_every_label(name: str, positive: str) -> None:
    result = check_scorer(name, "quickstart", None)
    assert result["positive"] == positive
    assert [*result["labels"]] == list(LABELS)
    assert sum(row["n"] + row["unscored"] for row in result["labels"].values()) == 400
    assert result["sensitivity"]["value"] == result["labels"][positive]["value"]
    others = [row for label, row in result["labels"].items() if label != positive]
    alarms = sum(row["value"] * row["n"] for row in others)
    kept = 1 - alarms / sum(row["n"] for row in others)
    assert result["specificity"]["value"] == pytest.approx(kept)
    for name in ("sensitivity", "specificity"):
        parts = [base[name] for base in result["bases"].values()]
        assert sum(p["n"] for p in parts) == result[name]["n"]
        assert sum(p["n"] * p["value"] for p in parts) == pytest.approx(
            result[name]["n"] * result[name]["value"]
        )
    text = check_text(result)
    assert "sensitivity, smollm2" in text
    assert "sensitivity" in text
    assert f"it should find: {positive}" in text


def test_refusals_are_found_by_their_words() -> None:
    result = check_scorer("refusal", "quickstart", None)
    assert result["sensitivity"]["value"] > 0.9
    assert result["specificity"]["value"] > 0.9


def test_a_scorer_that_labels_cannot_test_is_told() -> None:
    for name in ("rating", "offline-values", "nonsense"):
        with pytest.raises(UserError, match="is no scorer that the labels test"):
            check_scorer(name, "quickstart", None)
