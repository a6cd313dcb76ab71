"""A whole study whose completions and verdicts come from a faulty server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support import judges
from support.servers import serving
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)


def test_a_judged_study(tmp_path: Path, load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    count = 2 * len(judges.NAMES)
    with serving(judges.judge()) as faulty:
        study = load(judges.judged_study(tmp_path, faulty, count))
        run = run_study(study)
        told = capsys.readouterr().err
        faulty.plan = lambda prompt, attempt: "answer"
        later = run_study(study)
    expected = judges.expected(count)
    assert (run.scored, run.unscored) == (expected["scored"], count - expected["scored"])
    assert f"{expected['refused']} refused" in told
    assert f"{count} texts" in told
    assert later.scored == expected["scored"] + expected["unanswered"]
    unscored = pl.read_csv(later.store.root / "findings" / "unscored.csv")
    assert dict(unscored.group_by("status").agg(pl.col("completions").sum()).iter_rows()) == {
        status: n for status, n in expected.items() if status not in ("scored", "unanswered")
    }
    first = pl.concat([run.store.scan(s.scores) for s in all_shards(run)]).collect()
    assert json.loads(first.filter(pl.col("status") == "scored")["raw"][0])["reason"] == "it is so"
    page = (later.store.root / "report.html").read_text()
    assert judges.INJECTED not in page.partition("Examples")[0]
