"""The commands `unharm data …`: where data sets come from, and whether those of a study are whole."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from unharm.cli.common import JsonOption, SetOption, StudyArg

data = typer.Typer(help="The data sets of studies.", no_args_is_help=True)


@data.command("list")
def list_data(as_json: JsonOption = False) -> None:
    """List every data set: where it is obtained, its licence, and the field that names its file."""
    from unharm.corpus.data_sets import DATA_SETS

    if as_json:
        print(json.dumps({name: asdict(one) for name, one in DATA_SETS.items()}, ensure_ascii=False))
        return
    for one in DATA_SETS.values():
        print(one.title)
        print(f"  from      {one.where}")
        print(f"  licence   {one.licence}")
        if one.sizes:
            print(f"  size      {' or '.join(f'{size:,}' for size in one.sizes)}")
        print(f"  field     {one.field}")
        print(f"  to do     {one.todo}")


@data.command("check")
def check(study: StudyArg, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Read every data set of a study whole and compare it with what is published.

    Exit code 3 where a size differs, 2 where something is missing or cannot be read.
    """
    from unharm.corpus.data_sets import DATA_SETS
    from unharm.study.check import load_study
    from unharm.study.data_check import check_data

    found = check_data(load_study(study, set_))
    if as_json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False))
    else:
        for one in found:
            items = "" if one.items is None else f"{one.items:,}"
            title = DATA_SETS[one.name].title
            print(f"{title:<24}{one.state:<12}{items:>8}  {one.sha256[:12]:<12}  {one.file}")
            if one.note:
                print(f"{'':<24}{one.note}")
    states = {one.state for one in found}
    if states & {"missing", "unreadable"}:
        raise typer.Exit(2)
    if "differs" in states:
        raise typer.Exit(3)
