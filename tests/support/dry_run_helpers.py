"""The paper's study, planned without its data."""

from __future__ import annotations

from typing import Any

from support.paths import ROOT
from unharm.study.check import load_study

PAPER = str(ROOT / "studies" / "paper.yaml")


def paper(*changes: str) -> Any:
    return load_study(PAPER, ["data=/nowhere", *changes], data_needed=False)
