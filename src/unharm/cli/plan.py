"""The commands `unharm plan` and `unharm status`: what a run will do, and how far it is."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unharm.cli.common import JsonOption, SetOption, StudyArg
from unharm.core.errors import UserError
from unharm.core.terminal import tell

if TYPE_CHECKING:
    from unharm.core.pace import Dry
    from unharm.runs.planning.rehearsal import Rehearsal
    from unharm.study.spec import Study


def plan(
    study: StudyArg,
    set_: SetOption = None,
    power: Annotated[
        bool, typer.Option("--power", help="Simulate which effects the study would detect and miss.")
    ] = False,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="With --power: base (a rate of harm), shared (by near copies), unscored, sensitivity.",
        ),
    ] = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[xN]",
            help="Estimate time, GPU hours, storage and cost on this hardware, file, run, or 'here'.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Run every stage with simulated answers and measure the effort."),
    ] = False,
    faults: Annotated[
        float, typer.Option(min=0, max=0.5, help="With --dry-run: share of attempts that fail.")
    ] = 0.0,
    engine_rate: Annotated[
        float | None, typer.Option(min=0.001, help="With --dry-run: completions per second of one worker.")
    ] = None,
    scorer_rate: Annotated[
        float | None, typer.Option(min=0.001, help="With --dry-run: scores per second of one worker.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --dry-run: keep the run folder here. By default it is removed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a study would run, without running it. Missing data count with their published size."""
    from unharm.runs.plan import Plan
    from unharm.runs.planning.summary import summary_of
    from unharm.runs.planning.text import plan_text, power_text
    from unharm.study.check import load_study

    spec = load_study(study, set_, data_needed=False)
    if assume and not power:
        raise UserError("--assume needs --power", "unharm plan")
    if not dry_run and (faults or engine_rate or scorer_rate or out):
        raise UserError("this option needs --dry-run", "unharm plan")
    planned = Plan(spec, sizes_only=True)
    summary = summary_of(planned)
    data, text = asdict(summary), plan_text(summary)
    if power:
        from unharm.runs.planning.power import assumed_of, power_of

        data["power"] = power_of(planned, assumed_of(assume or []))
        text += power_text(data["power"])
    if hardware:
        from unharm.runs.planning.hardware import estimates, hardware_text

        data["hardware"] = estimates(planned, summary, hardware)
        text += hardware_text(data["hardware"])
    if dry_run:
        from unharm.core.pace import Dry
        from unharm.runs.planning.rehearsal import rehearsal_text

        rehearsal = _run_rehearsal(spec, Dry(engine_rate, scorer_rate, faults), out)
        data["dry_run"] = asdict(rehearsal)
        text += "\n\n" + rehearsal_text(rehearsal)
    tell(json.dumps(data) if as_json else text)


def _run_rehearsal(study: Study, dry: Dry, out: Path | None) -> Rehearsal:
    """Rehearse the study in `out`, or in a temporary folder if it is None."""
    import tempfile

    from unharm.runs.planning.rehearsal import rehearse

    if out is not None:
        if out.exists() and any(out.iterdir()):
            raise UserError("this folder is not empty", str(out), "choose another --out")
        return rehearse(study, dry, out)
    with tempfile.TemporaryDirectory(prefix="unharm-dry-run-") as folder:
        return rehearse(study, dry, Path(folder))


def status(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, such as runs/quickstart.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Print the status every few seconds until the run ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the progress of a run: what is done, running or failed, the rate, and the expected end.

    Works on any machine that can read the run folder. Exit code 1 if the run failed or is silent, 3 if it
    was stopped or is incomplete.
    """
    from unharm.runs.status import EVERY, status_text
    from unharm.runs.status import status as status_of

    while True:
        current = status_of(folder)
        tell(json.dumps(asdict(current)) if as_json else status_text(current), flush=True)
        if not watch or current.state != "running":
            break
        time.sleep(EVERY)
        if not as_json:
            tell()
    if current.state in ("failed", "silent"):
        raise typer.Exit(1)
    if current.state == "stopped" or current.failed or current.failed_adapters or current.unscored:
        raise typer.Exit(3)
