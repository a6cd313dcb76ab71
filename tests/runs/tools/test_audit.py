"""Tests of `unharm.runs.tools.audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unharm.runs.context import new_run
from unharm.runs.tools.audit import audit, audit_text


def test_audit_counts_and_warns(load: Any, tiny_study: dict[str, Any]) -> None:
    run = new_run(load(tiny_study | {"profiles": ["extreme", "reverse"]}, "corpus.limit=null"))
    found, plan = audit(run), run.plan
    assert found["toxicity"]["arguments"]["n"] == 420
    assert found["toxicity"]["grammar"]["n"] == 20
    rows = {r["profile"]: r for r in found["profiles"]}
    assert rows["power"]["positives"] == sum(a.values == ("power",) for a in plan.arguments)
    assert rows["power"]["positives"] + rows["power"]["negatives"] == 420
    assert rows["reverse-power"]["positives"] == sum("power" not in a.values for a in plan.arguments)
    assert sum(found["splits"].values()) == 420
    assert found["labels"]["power"]["labelled"] >= 40
    few = audit(new_run(load(tiny_study)))
    assert any(r["few"] for r in few["profiles"])
    assert "too few to learn from" in audit_text(few)
    assert "warning:" in audit_text(few)


def test_audit_sees_near_duplicates(
    load: Any, tiny_study: dict[str, Any], tmp_path: Path, toy_data: Path
) -> None:
    lines = (toy_data / "arguments.tsv").read_text().splitlines()
    twins = [line.replace("town that", "town which") for line in lines[1:4]]
    path = tmp_path / "arguments.tsv"
    path.write_text("\n".join([*lines[:60], *twins]) + "\n")
    found = audit(new_run(load(tiny_study, f"corpus.arguments={path}", "corpus.limit=null")))
    assert found["near_duplicates"]["pairs"] == 3


def test_audit_of_the_published_profiles(real_data: Path, load: Any, tiny_study: dict[str, Any]) -> None:
    """5 of the 154 published profiles have no positive at all."""
    study = load(
        tiny_study,
        f"profiles=[extreme, {{survey: {real_data}/ess/ess.csv, nearest: 10}}]",
        f"corpus={{arguments: {real_data}/touche23/valueEval_10.csv, benign: {{grammar: {{file: grammar.csv}}}}}}",
        "fidelity=published",
    )
    rows = audit(new_run(study))["profiles"]
    assert len(rows) == 154
    assert sum(r["positives"] == 0 for r in rows) == 5
