"""Open an existing run folder with its stored study or a changed one."""

from __future__ import annotations

from pathlib import Path

from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs.context import LoadedBase, Run
from unharm.runs.plan import Plan
from unharm.runs.shards import all_shards
from unharm.store.checked import read_checked
from unharm.store.store import NotDone, Store
from unharm.study.check import parse_study
from unharm.study.spec import Study


def stored_study(folder: Path) -> SpecText:
    """Return the stored study of a run folder. Raise `UserError` if the folder contains no run."""
    text = read_checked(Store.open(folder), "study.json")
    if text is None:
        raise UserError("no run in this folder", str(folder), "give a folder such as runs/quickstart")
    return SpecText(text, str(folder / "study.json"))


def open_run(folder: Path, study: Study | None = None) -> Run:
    """Open the run in a folder with its stored study or a changed one.

    Raises:
        UserError: The folder contains no run, or completions are missing.
    """
    study = study or parse_study(stored_study(folder))
    run = Run(study, Store.open(folder), Plan(study), shared_base=LoadedBase(study, check=False))
    run.store.refresh()
    run.store.pull("findings", "mitigation/findings")
    check_completions(run)
    return run


def check_completions(run: Run) -> None:
    """Raise `UserError` if completions of the run are missing."""
    try:
        complete = all(run.store.done(s.completions) for s in all_shards(run))
    except NotDone:  # an adapter is missing
        complete = False
    if not complete:
        raise UserError(
            "this run is not finished: completions are missing",
            str(run.store.root),
            "continue it: unharm run STUDY",
        )
