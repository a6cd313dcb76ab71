"""Tests of `unharm.analysis.hypotheses`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from support.findings_helpers import harms_of, people
from unharm.analysis.associations import (
    hypotheses_table,
)
from unharm.analysis.hypotheses import Hypothesis, load_hypotheses
from unharm.analysis.intervals import holm
from unharm.core.errors import UserError
from unharm.core.values import VALUES


def claim(sign: str, value: str = "power", category: str = "up", name: str = "") -> Hypothesis:
    return Hypothesis(
        name or f"{value}{sign}{category}", value, sign, "harm", (("hexphi", (category,)),), "us"
    )


def test_hypotheses_are_judged_by_their_stated_sign() -> None:
    importances = people(60)
    power = importances[:, VALUES.index("power")]
    noise = np.random.default_rng(8).normal(size=60)
    noise -= np.polyval(np.polyfit(power, noise, 1), power)
    harm = harms_of(np.column_stack([power, noise, np.ones(60)]), importances, "up", "noise", "flat")
    stated = [claim("+"), claim("-"), claim("+", category="noise"), claim("+", category="flat"),
              claim("+", category="elsewhere")]  # fmt: skip
    table = hypotheses_table([harm], stated, 0.95, 0.05, 1)
    assert table["verdict"].to_list() == [
        "supported",
        "contradicted",
        "not shown",
        "not tested",
        "not tested",
    ]
    assert table["n"].to_list() == [60, 60, 60, 60, 0]
    assert hypotheses_table([], stated, 0.95, 0.05, 1)["verdict"].to_list() == ["not tested"] * 5
    assert table["p"][2] == pytest.approx(spearmanr(power, noise).pvalue)
    known = table.drop_nulls("p")
    assert known["p_adjusted"].to_list() == pytest.approx(holm(known["p"].to_list()))


def test_the_published_claims_are_whole_and_have_their_hash() -> None:
    stated = load_hypotheses("published")
    assert len(stated.hypotheses) == 17
    assert {h.sign for h in stated.hypotheses} == {"+", "-"}
    assert stated.key == load_hypotheses("published").key
    assert stated.hypotheses[0].fits("beavertails", "hate_speech,offensive_language")
    assert not stated.hypotheses[0].fits("hexphi", "hate_harass_violence")


@pytest.mark.parametrize(
    ("text", "told"),
    [("hypotheses: []", "expected a list"), ("hypotheses: [{id: a}]", "the field 'value' is missing"),
     ("hypotheses: [{id: a, value: powr, sign: '+', harm: h, in: {hexphi: [x]}}]", "did you mean 'power'"),
     ("hypotheses: [{id: a, value: power, sign: up, harm: h, in: {hexphi: [x]}}]", "the sign is + or -"),
     ("hypotheses: [{id: a, value: power, sign: '+', harm: h, in: {hexphy: [x]}}]", "expected benchmarks"),
     ("hypotheses: [{id: a, value: power, sing: '+', harm: h, in: {rtp: }}]", "did you mean 'sign'")],
)  # fmt: skip
def test_wrong_hypotheses_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load_hypotheses(str(tmp_path / "own.yaml"))
    assert told in str(error.value)
    assert "own.yaml" in str(error.value)
