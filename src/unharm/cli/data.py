"""The commands `unharm data …`: list the data sets, and check those of a study."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from unharm.cli.common import JsonOption, SetOption, StudyArg
from unharm.core.terminal import tell

data = typer.Typer(help="The data sets of studies.", no_args_is_help=True)


@data.command("list")
def list_data(as_json: JsonOption = False) -> None:
    """List all data sets: where to obtain each, its licence, and the study field that names its file."""
    from unharm.corpus.data_sets import DATA_SETS

    if as_json:
        tell(
            json.dumps({name: asdict(data_set) for name, data_set in DATA_SETS.items()}, ensure_ascii=False)
        )
        return
    for data_set in DATA_SETS.values():
        tell(data_set.title)
        tell(f"  from      {data_set.where}")
        tell(f"  licence   {data_set.licence}")
        if data_set.sizes:
            tell(f"  size      {' or '.join(f'{size:,}' for size in data_set.sizes)}")
        tell(f"  field     {data_set.field}")
        tell(f"  to do     {data_set.todo}")


@data.command("check")
def check(study: StudyArg, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Read every data set of a study completely and compare its size with the published one.

    Exit code 3 if a size differs, 2 if a file is missing or cannot be read.
    """
    from unharm.corpus.data_sets import DATA_SETS
    from unharm.study.check import load_study
    from unharm.study.data_check import check_data

    results = check_data(load_study(study, set_))
    if as_json:
        tell(json.dumps([asdict(result) for result in results], ensure_ascii=False))
    else:
        for result in results:
            items = "" if result.items is None else f"{result.items:,}"
            title = DATA_SETS[result.name].title
            tell(f"{title:<24}{result.state:<12}{items:>8}  {result.sha256[:12]:<12}  {result.file}")
            if result.note:
                tell(f"{'':<24}{result.note}")
    states = {result.state for result in results}
    if states & {"missing", "unreadable"}:
        raise typer.Exit(2)
    if "differs" in states:
        raise typer.Exit(3)
