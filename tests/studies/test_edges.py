"""Studies in which something cannot be told: it is said, and nothing becomes NaN or a crash."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from unharm.core.records import Score
from unharm.runs.pipeline import run_study
from unharm.scoring import SCORERS
from unharm.scoring.scorer import unscored
from unharm.scoring.texts import Text


def nothing(texts: Sequence[Text]) -> list[Score]:
    return [unscored(t, "no number today") for t in texts]


def same(texts: Sequence[Text]) -> list[Score]:
    return [Score(t.id, 1.0, "same") for t in texts]


def alone(data: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A study of vanilla and icl, without training."""
    rest = {k: v for k, v in data.items() if k != "corpus"}
    return (
        rest | {"arms": ["vanilla", "icl"], "mitigation": {"benchmarks": ["hexphi", "beavertails"]}} | more
    )


CASES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "one profile": lambda d: alone(d, profiles=[{"extreme": ["power"]}]),
    "two profiles": lambda d: alone(d, profiles=[{"extreme": ["power", "security"]}]),
    "one prompt": lambda d: alone(
        d, benchmarks={"hexphi": {"file": "hexphi", "limit": 1, "max_tokens": 2}}
    ),
    "one prompt per category": lambda d: alone(
        d, benchmarks={"beavertails": {"file": "beavertails.csv", "limit": 14, "max_tokens": 2}}
    ),
    "vanilla alone": lambda d: alone(d, arms=["vanilla"], mitigation=None),
    "no vanilla": lambda d: alone(d, arms=["icl"], mitigation=None),
    "a questionnaire alone": lambda d: alone(
        d, benchmarks={"questionnaire": d["benchmarks"]["questionnaire"]}, mitigation=None
    ),
    "nothing scored": lambda d: alone(d),
    "nothing varies": lambda d: alone(d),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_told_is_said(
    case: str, tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = {"nothing scored": nothing, "nothing varies": same}.get(case)
    for name in list(SCORERS) if scorer else []:
        if name != "rating":
            monkeypatch.setitem(SCORERS, name, replace(SCORERS[name], score=scorer))
    for name, benchmark in tiny_study["benchmarks"].items():
        benchmark["max_tokens"] = 2
        if name in ("hexphi", "beavertails"):
            del benchmark["limit"]
    run = run_study(load(CASES[case](tiny_study)))
    root: Path = run.store.root
    for folder in (root, root / "mitigation"):
        for file in (folder / "findings").glob("*.csv") if folder.exists() else []:
            frame = pl.read_csv(file, infer_schema_length=None)
            for column in frame.select(pl.col(pl.Float64)):
                assert column.is_finite().all(ignore_nulls=True), f"{file.name}: {column.name}"
            assert "NaN" not in file.read_text()
            assert "inf" not in {c for line in file.read_text().splitlines() for c in line.split(",")}
    small = case in ("one profile", "one prompt", "one prompt per category", "a questionnaire alone")
    tried = run.study.mitigation is not None and not small
    assert (root / "mitigation").exists() == tried
    body = (root / "report.html").read_text().split("<script>")[0]
    visible = re.sub(
        r"<details><summary>(?:The study as run|Versions, hardware).*?</details>", "", body, flags=re.DOTALL
    )
    assert not re.search(r"\b(?:nan|None|inf)\b", re.sub(r"<[^>]+>", " ", visible))
