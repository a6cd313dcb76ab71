"""A run folder opened again, by the study that it was made by or a changed one."""

from __future__ import annotations

from pathlib import Path

from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.runs.shards import all_shards
from unharm.store.checked import read_checked
from unharm.store.store import NotDone, Store
from unharm.study.check import parse_study
from unharm.study.spec import Study


def stored_study(folder: Path) -> SpecText:
    """The study that a run folder was made by. Raises `UserError` where the folder is no run."""
    text = read_checked(Store.at(folder), "study.json")
    if text is None:
        raise UserError("no run in this folder", str(folder), "give a folder such as runs/quickstart")
    return SpecText(text, str(folder / "study.json"))


def open_run(folder: Path, study: Study | None = None) -> Run:
    """The run of a folder, by its stored study or a changed one.

    Raises:
        UserError: The folder is no run, or a completion of it is missing.
    """
    study = study or parse_study(stored_study(folder))
    run = Run(study, Store.at(folder), Plan(study))
    run.store.refresh()
    run.store.pull("findings", "mitigation/findings")
    check_completions(run)
    return run


def check_completions(run: Run) -> None:
    """Raise `UserError` where a completion of the run is missing."""
    try:
        whole = all(run.store.done(s.completions) for s in all_shards(run))
    except NotDone:  # an adapter is missing
        whole = False
    if not whole:
        raise UserError(
            "this run is not finished: not all of its completions are there",
            str(run.store.root),
            "go on with it: unharm run STUDY",
        )
