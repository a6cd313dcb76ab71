"""The commands about scores: rescore, calibrate, labels, and batch files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import JsonOption, RunArg, SetOption, told_of
from unharm.core.errors import UserError

batch = typer.Typer(help="Judging through batch files, at half price.", no_args_is_help=True)

JudgeOption = Annotated[str, typer.Option("--scorer", help="The judge, by its name in the study.")]


def rescore(
    folder: RunArg,
    scorer: Annotated[
        list[str] | None, typer.Option("--scorer", help="Becomes the scorer of the benchmarks it fits.")
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Scores beside it, for their agreement.")
    ] = None,
    scorers: Annotated[
        Path | None, typer.Option("--scorers", help="A file with more scorers by name.")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the stored completions of a run again, without generating; earlier scores stay."""
    from unharm.runs.tools.rescore import rescore as again

    if not scorer and not also and not set_ and not scorers:
        raise UserError("nothing is asked for", "--scorer", "for example --scorer offline-toxicity")
    told_of(again(folder, scorer or [], also or [], scorers, set_ or []), "report", as_json)


def calibrate(
    one: Annotated[str, typer.Argument(metavar="A", help="The scorer whose scores are mapped.")],
    other: Annotated[str, typer.Argument(metavar="B", help="The scorer that they are mapped to.")],
    run: Annotated[Path | None, typer.Option("--run", help="A run that both have scored.")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="A CSV with the column text; scores may stand in columns named as the scorers."),
    ] = None,
    study: Annotated[
        str, typer.Option(help="With --texts: the study whose scorers read texts without a column.")
    ] = "quickstart",
    out: Annotated[Path | None, typer.Option("--out", help="Where the map is written.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a monotone map between two scorers of toxicity, with its error on unseen texts."""
    from unharm.runs.tools.calibrate import calibrate_run, calibrate_texts, calibration_text

    if (run is None) == (texts is None):
        raise UserError("give --run or --texts, and not both", "unharm calibrate")
    target = out or Path(f"{one}-to-{other}.json")
    if run is not None:
        found = calibrate_run(run, one, other, target)
    else:
        assert texts is not None
        found = calibrate_texts(texts, study, set_, one, other, target)
    print(json.dumps(found) if as_json else calibration_text(found))


def labels(
    folder: RunArg,
    benchmark: Annotated[str, typer.Option(help="The benchmark whose completions people label.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV to write; it may have harmful text in it.")],
    sample: Annotated[int, typer.Option(min=1, help="How many completions, drawn by seed.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Write a sheet of completions for people to label; give it back in benchmarks.<name>.human."""
    from unharm.runs.tools.label_sheet import write_sheet

    count = write_sheet(folder, benchmark, sample, out)
    print(
        json.dumps({"sheet": str(out), "completions": count}) if as_json else f"{out}: {count} completions"
    )


@batch.command("write")
def write(folder: RunArg, scorer: JudgeOption, as_json: JsonOption = False) -> None:
    """Write the requests for all texts without a verdict into files of the run folder."""
    from unharm.runs.reopen import open_run
    from unharm.runs.tools import batches

    run = open_run(folder)
    with run.store.lock():
        found = batches.write(run, scorer)
    if as_json:
        print(json.dumps(found))
        return
    for file in found["files"]:
        print(folder / file)
    print(f"{found['requests']:,} requests, at most {found['most_cost']:,.2f} at half price")


@batch.command("submit")
def submit(folder: RunArg, scorer: JudgeOption, as_json: JsonOption = False) -> None:
    """Hand the written files in; they are done within 24 hours."""
    from unharm.runs.reopen import open_run
    from unharm.runs.tools import batches

    run = open_run(folder)
    with run.store.lock():
        found = batches.submit(run, scorer)
    print(json.dumps(found) if as_json else "\n".join(found["submitted"]))


@batch.command("collect")
def collect(
    folder: RunArg,
    scorer: JudgeOption,
    results: Annotated[
        Path | None, typer.Option("--file", help="A file of results that was downloaded by hand.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the answers of batches that have ended; 'unharm score' then finds them.

    Exit code 3 while a batch is on its way, or where requests failed.
    """
    from unharm.runs.reopen import open_run
    from unharm.runs.tools import batches

    run = open_run(folder)
    with run.store.lock():
        found = batches.collect(run, scorer, results)
    print(json.dumps(found) if as_json else ", ".join(f"{n:,} {what}" for what, n in found.items()))
    if found["waiting"] or found["failed"]:
        raise typer.Exit(3)
