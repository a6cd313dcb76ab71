"""The command `unharm capability`: the models of a run on tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import ForceOption, JsonOption, RunArg
from unharm.core.terminal import tell


def capability(
    folder: RunArg,
    tasks: Annotated[
        list[str], typer.Option("--task", help="A task of lm-evaluation-harness; give several.")
    ],
    include: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder with tasks of your own.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most documents of a task.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table to write.")] = Path("capability.csv"),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the models of a run on tasks of lm-evaluation-harness, paired with vanilla."""
    from unharm.core.files.disk import refuse_existing
    from unharm.runs.reopen import open_run
    from unharm.runs.tools.capability import capability as evaluate
    from unharm.store.tables import csv_bytes

    refuse_existing([out], force)
    with open_run(folder) as run:
        table = evaluate(run, tasks, include, limit)
    out.write_bytes(csv_bytes(table))
    if as_json:
        tell(json.dumps({"table": str(out), "rows": table.to_dicts()}))
        return
    for row in table.to_dicts():
        means = [("–" if row[c] is None else f"{row[c]:.3f}") for c in ("value_arm", "value_vanilla")]
        interval = "" if row["low"] is None else f" [{row['low']:+.3f} to {row['high']:+.3f}]"
        change = "–" if row["value"] is None else f"{row['value']:+.3f}"
        difference = f"{change}{interval}, {row['n']} {row['unit']}s"
        name = f"{row['arm']}  {row['task']} {row['metric']}"
        tell(f"{name}  {means[0]} (vanilla {means[1]})  difference {difference}")
    tell(str(out))
