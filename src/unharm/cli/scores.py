"""The commands on scores: `rescore`, `pilot`, `calibrate`, `labels` and `batch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import ForceOption, JsonOption, RunArg, SetOption, StudyArg, report_outcome
from unharm.core.errors import UserError
from unharm.core.terminal import tell

scorers = typer.Typer(help="Test scorers on labelled completions.", no_args_is_help=True)
batch = typer.Typer(help="Judge through batch files, at half price.", no_args_is_help=True)

JudgeOption = Annotated[
    str, typer.Option("--scorer", help="Name of the judge, or of the guard on a server.")
]


def rescore(
    folder: RunArg,
    scorer: Annotated[
        list[str] | None, typer.Option("--scorer", help="Use this scorer for every benchmark that it fits.")
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Also score with this scorer, to measure agreement.")
    ] = None,
    scorers: Annotated[
        Path | None, typer.Option("--scorers", help="A file that defines further scorers by name.")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the stored completions of a run again, without generating. Earlier scores are kept."""
    from unharm.runs.tools.rescore import rescore as rescore_run

    if not scorer and not also and not set_ and not scorers:
        raise UserError("no scorer is given", "--scorer", "for example --scorer offline-toxicity")
    report_outcome(rescore_run(folder, scorer or [], also or [], scorers, set_ or []), "report", as_json)


def calibrate(
    one: Annotated[str, typer.Argument(metavar="A", help="The scorer whose scores are mapped.")],
    other: Annotated[str, typer.Argument(metavar="B", help="The scorer to map to.")],
    run: Annotated[Path | None, typer.Option("--run", help="A run that both scorers have scored.")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="A CSV with the column text. Columns named after the scorers may hold their scores."
        ),
    ] = None,
    study: Annotated[
        str, typer.Option(help="With --texts: the study that defines scorers without a column.")
    ] = "quickstart",
    out: Annotated[Path | None, typer.Option("--out", help="The file to write the map to.")] = None,
    force: ForceOption = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a monotone map between two toxicity scorers and estimate its error on unseen texts."""
    from unharm.core.files.disk import refuse_existing
    from unharm.runs.tools.calibrate import calibrate_run, calibrate_texts, calibration_text

    if (run is None) == (texts is None):
        raise UserError("give either --run or --texts, not both", "unharm calibrate")
    target = out or Path(f"{one}-to-{other}.json")
    refuse_existing([target], force)
    if run is not None:
        calibration = calibrate_run(run, one, other, target)
    else:
        assert texts is not None
        calibration = calibrate_texts(texts, study, set_, one, other, target)
    tell(json.dumps(calibration) if as_json else calibration_text(calibration))


def pilot(
    study: StudyArg,
    old: Annotated[str, typer.Option("--from", help="The scorer that will be gone, such as perspective.")],
    new: Annotated[str, typer.Option("--to", help="The scorer that stays.")],
    n: Annotated[int, typer.Option("--n", min=100, help="Texts to score with both, over all arms.")] = 2000,
    benchmark: Annotated[
        str | None, typer.Option(help="Whose completions are scored, where several fit.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write the map to.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move from one scorer to another: score a sample with both, fit a map and test it on every arm.

    Completions are generated first where they are missing. Name the map in benchmarks.<name>.mapped.
    Exit code 3 if a service did not answer for some texts: the same command asks again.
    """
    from unharm.runs.tools.pilot import pilot as run_pilot
    from unharm.runs.tools.pilot import pilot_text
    from unharm.study.check import load_study

    target = out or Path(f"{new}-as-{old}.json")
    result = run_pilot(load_study(study, set_), old, new, n, benchmark, target)
    tell(json.dumps(result) if as_json else pilot_text(result))
    if any(
        reason.startswith("unanswered") for reasons in result["unscored"].values() for reason in reasons
    ):
        raise typer.Exit(3)


def labels(
    folder: RunArg,
    benchmark: Annotated[str, typer.Option(help="The benchmark whose completions are labelled.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV to write. It may contain harmful text.")],
    sample: Annotated[int, typer.Option(min=1, help="Number of completions to draw.")] = 300,
    rater: Annotated[
        list[str] | None,
        typer.Option("--rater", help="Write a sheet for this rater; give it twice for two."),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", help="Filled-in sheets: draw where further labels help most."),
    ] = None,
    disagreements: Annotated[
        bool,
        typer.Option("--disagreements", help="Write the completions on which raters disagree in --labels."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw completions for people to label, with known probabilities, and write sheets.

    Name the filled-in sheets in benchmarks.<name>.human: the findings then have corrected rates. Run the
    command again with --labels to draw further completions.
    """
    from unharm.runs.tools.label_sheet import write_disagreements, write_sheets

    if disagreements:
        several, agreed, left = write_disagreements(folder, benchmark, labels or [], out)
        counts = {"labelled_by_several": several, "agreed": agreed, "to_adjudicate": left}
        text = f"{several} completions have several raters, who agree on {agreed}"
        more = f"; {out}: {left} to adjudicate" if left else "; nothing to adjudicate"
        tell(json.dumps(counts) if as_json else text + more)
        return
    sheets = write_sheets(folder, benchmark, sample, out, rater or [], labels or [])
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(sheets.verdicts.items()))
    for file in () if as_json else sheets.files:
        tell(f"{file}: {sheets.completions} completions, {verdicts}")
    if as_json:
        files = [str(f) for f in sheets.files]
        written = {"sheet": files[0], "sheets": files, "completions": sheets.completions}
        tell(json.dumps(written | {"verdicts": sheets.verdicts}))


@scorers.command("test")
def scorer_on_truth(
    name: Annotated[str, typer.Argument(help="A built-in scorer, one of the study, or 'coherence'.")],
    study: Annotated[str, typer.Option(help="The study that defines the scorer.")] = "quickstart",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a scorer on 300 labelled completions: its sensitivity and specificity on such text."""
    from unharm.runs.tools.scorer_test import check_scorer, check_text

    result = check_scorer(name, study, set_)
    tell(json.dumps(result) if as_json else check_text(result))


@batch.command("write")
def write(folder: RunArg, scorer: JudgeOption, as_json: JsonOption = False) -> None:
    """Write batch files with the requests for all texts without a verdict into the run folder."""
    from unharm.runs.reopen import open_run
    from unharm.runs.tools import batches

    run = open_run(folder)
    with run.store.lock():
        written = batches.write(run, scorer)
    if as_json:
        tell(json.dumps(written))
        return
    for file in written["files"]:
        tell(folder / file)
    tell(f"{written['requests']:,} requests, at most {written['most_cost']:,.2f} at half price")


@batch.command("submit")
def submit(folder: RunArg, scorer: JudgeOption, as_json: JsonOption = False) -> None:
    """Submit the written batch files. Results arrive within 24 hours."""
    from unharm.runs.reopen import open_run
    from unharm.runs.tools import batches

    run = open_run(folder)
    with run.store.lock():
        submitted = batches.submit(run, scorer)
    tell(json.dumps(submitted) if as_json else "\n".join(submitted["submitted"]))


@batch.command("collect")
def collect(
    folder: RunArg,
    scorer: JudgeOption,
    results: Annotated[
        Path | None, typer.Option("--file", help="A results file that you downloaded by hand.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Store the answers of finished batches. 'unharm score' then uses them.

    Exit code 3 if a batch is not finished or requests failed.
    """
    from unharm.runs.reopen import open_run
    from unharm.runs.tools import batches

    run = open_run(folder)
    with run.store.lock():
        counts = batches.collect(run, scorer, results)
    tell(json.dumps(counts) if as_json else ", ".join(f"{n:,} {outcome}" for outcome, n in counts.items()))
    if counts["waiting"] or counts["failed"]:
        raise typer.Exit(3)
