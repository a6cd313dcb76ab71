"""A small study for several workers, in dry or for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from support.studies import study_data
from unharm.core.files.yaml_text import SpecText
from unharm.core.pace import Dry
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.store.store import Store
from unharm.study.check import parse_study


def small(base: Path, output: Path, **changes: Any) -> Any:
    data = study_data(base, output)
    data["benchmarks"]["hexphi"]["also"] = ["offline-harmfulness-topic"]
    data |= {"training": data["training"] | {"stack": 2}, **changes}
    return parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))


def dry_run(output: Path, dry: Dry, load: Any, base: dict[str, Any], *changes: str) -> Run:
    study = load(base, f"output={output}", "arms=[vanilla, icl]", "executor.workers=2", *changes)
    return Run(study, Store(output), Plan(study), dry=dry)
