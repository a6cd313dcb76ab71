"""Runs without models: the paper's study, planned without its data, and runs of made-up answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.paths import ROOT
from unharm.core.pace import Dry
from unharm.runs.context import Run
from unharm.runs.execute import execute
from unharm.runs.pipeline import stages_to
from unharm.runs.plan import Plan
from unharm.store.store import Store
from unharm.study.check import load_study
from unharm.study.spec import Study

PAPER = str(ROOT / "studies" / "paper.yaml")


def paper(*changes: str) -> Any:
    return load_study(PAPER, ["data=/nowhere", *changes], data_needed=False)


def finished(study: Study, folder: Path) -> Run:
    """A run with findings whose answers and scores are made up: all files of a real one in a second."""
    study = study.model_copy(update={"output": str(folder), "mitigation": None})
    run = Run(study, Store(folder), Plan(study), dry=Dry())
    execute(run, stages_to("findings"))
    return Run(study, Store(folder), Plan(study), dry=Dry())
