"""Work on a finished run: write its report again, or score its completions with other scorers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError, nearest, raise_all
from unharm.core.files.yaml_text import SpecText, read_text
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
    """Write the report of a run again from its stored results. Nothing is generated.

    Raises:
        UserError: The folder contains no run, or the run is not finished.
    """
    with open_run(folder) as run, run.store.lock():
        try:
            make_scores(run)
            make_report(run)
        except NotDone as missing:
            raise UserError(
                f"this run is not finished: {missing.artefact.path} is missing",
                str(folder),
                "continue it: unharm run STUDY",
            ) from None
    return run.store.root / "report.html"


def rescore(
    folder: Path,
    scorers: Sequence[str] = (),
    also: Sequence[str] = (),
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Run:
    """Score the completions of a run with other scorers and make its findings and report again.

    Nothing is generated, and earlier scores stay.

    Args:
        folder: The run folder.
        scorers: Each becomes the main scorer of the benchmarks it fits.
        also: Each becomes an additional scorer of the benchmarks it fits.
        file: A YAML file with scorers by name, as in the field `scorers` of a study.
        overrides: Assignments of `--set`.

    Raises:
        UserError: A scorer is unknown or fits no benchmark of the run; see also `run_study`.
    """
    text = stored_study(folder)
    if file is not None:
        more = SpecText(read_text(file, "scorers"), str(file))
        raise_all(more.problems)
        if not all(isinstance(spec, dict) and "." not in name for name, spec in more.data.items()):
            raise UserError("expected names with scorers", str(file), "for example judge: {kind: judge, …}")
        for name, spec in more.data.items():
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
    """Return the benchmarks of a study that a scorer fits. Raise `UserError` if there are none."""
    known = (*SCORERS, *study.scorers)
    option = "--also" if beside else "--scorer"
    if name not in known:
        raise UserError(f"unknown scorer {name!r}", option, nearest(name, known))
    row = scorer_row(study.scoring, name)
    chosen = study.benchmarks.chosen()
    everywhere = beside and row.measures in BESIDE
    fitting = {b: s for b, s in chosen.items() if everywhere or BENCHMARKS[b].measure == row.measures}
    if not fitting:  # a benchmark keeps its own measure where another one fits better
        fitting = {b: s for b, s in chosen.items() if row.measures in BENCHMARKS[b].or_measures}
    if not fitting:
        raise UserError(
            f"{name!r} measures {row.measures.replace('_', ' ')}, but no benchmark of this run does",
            option,
            f"the benchmarks are: {', '.join(chosen)}",
        )
    return fitting
