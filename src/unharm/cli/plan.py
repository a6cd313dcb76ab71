"""The commands before and during a run: `plan` and `status`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unharm.cli.common import JsonOption, SetOption, StudyArg
from unharm.core.errors import UserError

if TYPE_CHECKING:
    from unharm.core.pace import Dry
    from unharm.runs.planning.rehearsal import Rehearsal
    from unharm.study.spec import Study


def plan(
    study: StudyArg,
    set_: SetOption = None,
    power: Annotated[
        bool, typer.Option("--power", help="Simulate what the study would find, and miss.")
    ] = False,
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[xN]",
            help="Estimate time, GPU hours, storage and money on these; or a file, or 'here'.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run all of it with made-up answers; tell what it takes.")
    ] = False,
    faults: Annotated[
        float, typer.Option(min=0, max=0.5, help="With --dry-run: the share of tries that fail.")
    ] = 0.0,
    engine_rate: Annotated[
        float | None, typer.Option(min=0.001, help="With --dry-run: completions a second of one worker.")
    ] = None,
    scorer_rate: Annotated[
        float | None, typer.Option(min=0.001, help="With --dry-run: scores a second of one worker.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --dry-run: keep its run folder here; else it is removed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a study would run, without running it. Data sets that are not here count as published."""
    from unharm.runs.plan import Plan
    from unharm.runs.planning.summary import summary_of
    from unharm.runs.planning.text import plan_text, power_text
    from unharm.study.check import load_study

    spec = load_study(study, set_, data_needed=False)
    if not dry_run and (faults or engine_rate or scorer_rate or out):
        raise UserError("this option needs --dry-run", "unharm plan")
    planned = Plan(spec, sizes_only=True)
    summary = summary_of(planned)
    data, text = asdict(summary), plan_text(summary)
    if power:
        from unharm.runs.planning.power import power_of

        data["power"] = power_of(planned)
        text += power_text(data["power"])
    if hardware:
        from unharm.runs.planning.hardware import estimates, hardware_text

        data["hardware"] = estimates(planned, summary, hardware)
        text += hardware_text(data["hardware"])
    if dry_run:
        from unharm.core.pace import Dry
        from unharm.runs.planning.rehearsal import rehearsal_text

        rehearsal = _rehearsed(spec, Dry(engine_rate, scorer_rate, faults), out)
        data["dry_run"] = asdict(rehearsal)
        text += "\n\n" + rehearsal_text(rehearsal)
    print(json.dumps(data) if as_json else text)


def _rehearsed(study: Study, dry: Dry, out: Path | None) -> Rehearsal:
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
        bool, typer.Option("--watch", help="Tell again every few seconds until the run ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell where a run stands: done, running, failed, how fast, until when; from any machine that sees
    it."""
    from unharm.runs.status import EVERY, status_text
    from unharm.runs.status import status as status_of

    while True:
        found = status_of(folder)
        print(json.dumps(asdict(found)) if as_json else status_text(found), flush=True)
        if not watch or found.state != "running":
            break
        time.sleep(EVERY)
        if not as_json:
            print()
    if found.state in ("failed", "silent"):
        raise typer.Exit(1)
    if found.state == "stopped" or found.failed or found.failed_adapters or found.unscored:
        raise typer.Exit(3)
