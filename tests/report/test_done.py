"""The first table of the report says what the tables say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from unharm.analysis.alignment import UNKNOWN
from unharm.analysis.schemas import ALIGNMENT_SCHEMA, ARMS_SCHEMA, COMPARISONS_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.report.done import done_rows, view_command
from unharm.report.inputs import ReportedStudy

STUDY = ReportedStudy(
    "s", "b", ["vanilla", "icl", "vim", "benign:dolly"], ["input-only"], 1, "corrected", Analysis(),
    {"training": {"vim": {"lr": 2e-4}, "benign": {"lr": 1e-3}}},
)  # fmt: skip
CURVES = pl.DataFrame(
    [
        ("vim-ag", "ag", "power", None, "train", 10, 2.0), ("vim-ag", "ag", "power", None, "train", 20, 1.0),
        ("vim", "qa", "power", None, "train", 10, 1.0), ("vim", "qa", "power", None, "train", 1200, 0.9),
        ("vim", "qa", "power", None, "valid", 1200, 0.1),
        ("benign:dolly", "dolly", "", None, "train", 5, 1.0), ("benign:dolly", "dolly", "", None, "train", 9, 1.1),
    ],
    schema={"arm": pl.String, "stage": pl.String, "profile": pl.String, "seed": pl.Int64, "curve": pl.String,
            "steps": pl.Int64, "loss": pl.Float64},
    orient="row",
)  # fmt: skip


def rows() -> dict[str, dict[str, Any]]:
    common = {"strategy": "input-only", "category": "all", "metric": "incoherent_share"}
    arms = [
        {"arm": "vim", "benchmark": "rtp", "value": 0.034, **common},
        {"arm": "vim", "benchmark": "hexphi", "value": 0.25, **common},
        {"arm": "vim", "benchmark": "hbr", "value": 0.9, **common | {"strategy": "dual"}},
        {"arm": "vim", "benchmark": "hbr", "value": 0.9, **common | {"category": "age"}},
        {"arm": "vanilla", "benchmark": "rtp", "value": 0.0, **common},
    ]
    alignment = [
        {"arm": arm, "profile": p, "strategy": "input-only", "reading": "text", "value": 0.1, "verdict": verdict}
        for arm, p, verdict in (
            ("vim", "power", "took"), ("vim", "hedonism", "did not take"), ("icl", "power", UNKNOWN)
        )
    ]  # fmt: skip
    compared = [
        {"kind": "arms", "family": "arms", "arm": "vim", "strategy": "input-only", "reference": "vanilla",
         "category": "all", "metric": m, "verdict": v, "p": 0.1}
        for m, v in (("flagged_rate", "differs"), ("harmfulness", "undecided"), ("share_of_5", "undecided"))
    ]  # fmt: skip
    tables = {
        "arms": pl.DataFrame(arms, schema=ARMS_SCHEMA),
        "alignment": pl.DataFrame(alignment, schema=ALIGNMENT_SCHEMA),
        "comparisons": pl.DataFrame(compared, schema=COMPARISONS_SCHEMA),
    }
    return {row["arm"]: row for row in done_rows(STUDY, tables, CURVES)}


def test_each_arm_has_its_training_and_verdicts() -> None:
    done = rows()
    assert list(done) == STUDY.arms
    assert done["vim"]["training"] == [
        "ag: 20 steps at 0.0002, loss −50 %",
        "qa: 1,200 steps at 0.0002, loss −10 %",
    ]
    assert done["benign:dolly"]["training"] == ["dolly: 9 steps at 0.001, loss +10 %"]
    assert done["vanilla"]["training"] == ["not trained"]
    assert done["vim"]["incoherent"] == "25.0 % (HEx-PHI)"
    assert done["vanilla"]["incoherent"] == "0.0 %"
    assert done["vim"]["aligned"] == "took for 1 of 2"
    assert done["icl"]["aligned"] == "not known"
    assert done["vim"]["harms"] == "1 differ, 2 undecided"
    assert done["benign:dolly"]["aligned"] == done["vanilla"]["harms"] == ""


def test_an_arm_without_adapters_says_so() -> None:
    study = replace(STUDY, arms=["vim-qa"])
    empty = {
        "arms": pl.DataFrame(schema=ARMS_SCHEMA),
        "alignment": pl.DataFrame(schema=ALIGNMENT_SCHEMA),
        "comparisons": pl.DataFrame(schema=COMPARISONS_SCHEMA),
    }
    (row,) = done_rows(study, empty, CURVES)
    assert row["training"] == ["no adapter was trained"]
    assert row["incoherent"] == row["aligned"] == row["harms"] == ""


@pytest.mark.parametrize(
    ("folder", "page", "command"),
    [
        ("runs/a", "", "unharm view runs/a"),
        (
            "runs/my run",
            "/prompts?arm=vim&low=0.5",
            "unharm view 'runs/my run' --at '/prompts?arm=vim&low=0.5'",
        ),
    ],
)
def test_commands_can_be_pasted(folder: str, page: str, command: str) -> None:
    assert view_command(folder, page) == command
