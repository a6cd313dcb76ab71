"""A run folder opened again: its report rewritten, its completions scored anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unharm import stages
from unharm.errors import UserError, nearest
from unharm.mitigate import FOLDER
from unharm.pipeline import Run, check_scorers, execute
from unharm.plan import Plan
from unharm.scoring import BESIDE, SCORERS
from unharm.scoring.choose import scorer_row
from unharm.sound import read_sound
from unharm.spec_text import SpecText, read_text
from unharm.store import Store
from unharm.study import Study
from unharm.study_check import parse_study


def stored_study(folder: Path) -> SpecText:
    """The study that a run folder was made by. Raises `UserError` where the folder is no run."""
    text = read_sound(Store.at(folder), "study.json")
    if text is None:
        raise UserError("no run in this folder", str(folder), "give a folder such as runs/quickstart")
    return SpecText(text, str(folder / "study.json"))


def open_run(folder: Path, study: Study | None = None) -> Run:
    """The run of a folder, by its stored study or a changed one. Raises `UserError` where it is no run, or
    not all of its completions are there."""
    study = study or parse_study(stored_study(folder))
    run = Run(study, Store.at(folder), Plan(study))
    run.store.refresh()
    run.store.pull("findings", f"{FOLDER}/findings")
    with_completions(run)
    return run


def with_completions(run: Run) -> None:
    """Raises `UserError` where a completion of the run is missing."""
    try:
        whole = all(run.store.done(s.completions) for s in run.shards)
    except KeyError:  # an adapter is not there
        whole = False
    if not whole:
        raise UserError(
            "this run is not finished: not all of its completions are there",
            str(run.store.root),
            "go on with it: unharm run STUDY",
        )


def rewrite_report(folder: Path) -> Path:
    """Writes the report of a run folder again from what it has stored; nothing is run.

    Raises `UserError` where the folder is no run or not all of its parts are done.
    """
    run = open_run(folder)
    with run.store.lock():
        try:
            stages.make_scores(run)
            stages.make_report(run)
        except KeyError as missing:
            raise UserError(
                f"this run is not finished: {missing.args[0]} is not there",
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
    execute(run, ("scores", "findings", "report"))
    return run


def _fitting(study: Study, name: str, beside: bool) -> dict[str, Any]:
    """The benchmarks of a study that a scorer fits."""
    known = (*SCORERS, *study.scorers)
    option = "--also" if beside else "--scorer"
    if name not in known:
        raise UserError(f"unknown scorer {name!r}", option, nearest(name, known))
    row = scorer_row(study, name)
    chosen = study.benchmarks.chosen()
    found = {b: s for b, s in chosen.items() if b in row.benchmarks or (beside and row.measures in BESIDE)}
    if not found:
        raise UserError(
            f"{name!r} measures {row.measures.replace('_', ' ')}, which no benchmark of this run is about",
            option,
            f"the benchmarks are: {', '.join(chosen)}",
        )
    return found
