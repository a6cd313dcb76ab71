"""A run folder opened again: its report rewritten, its completions scored anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError, nearest
from unharm.core.files.yaml_text import read_text
from unharm.runs.context import Run
from unharm.runs.execute import execute
from unharm.runs.reopen import open_run, stored_study
from unharm.runs.stages.findings import make_findings
from unharm.runs.stages.report import make_report
from unharm.runs.stages.scores import check_scorers, make_scores
from unharm.scoring import BESIDE, SCORERS
from unharm.scoring.registry import scorer_row
from unharm.store.store import NotDone
from unharm.study.check import parse_study
from unharm.study.spec import Study


def rewrite_report(folder: Path) -> Path:
    """Writes the report of a run folder again from what it has stored; nothing is run.

    Raises `UserError` where the folder is no run or not all of its parts are done.
    """
    with open_run(folder) as run, run.store.lock():
        try:
            make_scores(run)
            make_report(run)
        except NotDone as missing:
            raise UserError(
                f"this run is not finished: {missing.artefact.path} is not there",
                str(folder),
                "go on with it: unharm run STUDY",
            ) from None
    return run.store.root / "report.html"


def rescore(
    folder: Path,
    scorers: Sequence[str] = (),
    also: Sequence[str] = (),
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Run:
    """Scores the stored completions of a run with other scorers and makes its findings and report anew;
    nothing is generated, and earlier scores stay.

    Each of `scorers` becomes the scorer of the benchmarks that it fits, each of `also` is added beside it.
    `file` has more scorers by name, as the field `scorers` of a study. Raises `UserError` for a name
    that is not known, a scorer that fits no benchmark of the run, and as `run_study` does.
    """
    text = stored_study(folder)
    if file is not None:
        try:
            more = yaml.safe_load(read_text(file, "scorers"))
        except yaml.YAMLError:
            raise UserError("not valid YAML", str(file), "expected names with scorers") from None
        if not isinstance(more, dict) or not all(isinstance(v, dict) for v in more.values()):
            raise UserError("expected names with scorers", str(file), "for example judge: {kind: judge, …}")
        for name, spec in more.items():
            text.override(f"scorers.{name}={json.dumps(spec)}")
    for assignment in overrides:
        text.override(assignment)
    study = parse_study(text)
    for name in scorers:
        for benchmark, spec in _fitting(study, name, beside=False).items():
            text.override(f"benchmarks.{benchmark}.scorer={json.dumps(name)}")
            text.override(f"benchmarks.{benchmark}.also={json.dumps([a for a in spec.also if a != name])}")
    for name in also:
        for benchmark, spec in _fitting(parse_study(text), name, beside=True).items():
            if name not in spec.scorers:
                text.override(f"benchmarks.{benchmark}.also={json.dumps([*spec.also, name])}")
    run = open_run(folder, parse_study(text))
    run.plan.check_inputs()
    check_scorers(run)
    execute(run, [("scores", make_scores), ("findings", make_findings), ("report", make_report)])
    return run


def _fitting(study: Study, name: str, beside: bool) -> dict[str, Any]:
    """The benchmarks of a study that a scorer fits."""
    known = (*SCORERS, *study.scorers)
    option = "--also" if beside else "--scorer"
    if name not in known:
        raise UserError(f"unknown scorer {name!r}", option, nearest(name, known))
    row = scorer_row(study.scoring, name)
    chosen = study.benchmarks.chosen()
    everywhere = beside and row.measures in BESIDE
    found = {b: s for b, s in chosen.items() if everywhere or BENCHMARKS[b].measure == row.measures}
    if not found:
        raise UserError(
            f"{name!r} measures {row.measures.replace('_', ' ')}, which no benchmark of this run is about",
            option,
            f"the benchmarks are: {', '.join(chosen)}",
        )
    return found
