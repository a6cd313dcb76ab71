"""The commands `unharm profiles …` and `unharm corpus …`: the inputs of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unharm.cli.common import ForceOption, IntoOption, JsonOption, SetOption, StudyArg, run_to
from unharm.core.errors import UserError, nearest
from unharm.core.terminal import tell

if TYPE_CHECKING:
    from unharm.core.records import Profile

profiles = typer.Typer(help="The profiles of a study.", no_args_is_help=True)
corpus = typer.Typer(help="The training texts of a study.", no_args_is_help=True)

NameArg = Annotated[str, typer.Argument(metavar="NAME", help="The name of a profile of the study.")]


def _profiles(study: str, overrides: list[str] | None) -> list[Profile]:
    from unharm.runs.plan import profiles_of
    from unharm.study.check import load_study

    return profiles_of(load_study(study, overrides))


@profiles.command("list")
def list_profiles(study: StudyArg, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """List the profiles with their ten importances."""
    from unharm.core.values import VALUES

    loaded = _profiles(study, set_)
    if as_json:
        rows = [{"name": p.name, "importances": p.importances, "source": p.source} for p in loaded]
        tell(json.dumps(rows))
        return
    tell(f"{'':28}" + "".join(f"{v[:6]:>7}" for v in VALUES))
    for profile in loaded:
        tell(f"{profile.name[:27]:28}" + "".join(f"{x:>7.2f}" for x in profile.importances))
    tell(f"{len(loaded):,} profiles")


@profiles.command("make")
def make_profiles(
    study: StudyArg, set_: SetOption = None, into: IntoOption = None, as_json: JsonOption = False
) -> None:
    """Write the profiles of a study into its run folder."""
    run_to(study, set_, "profiles", as_json, into=into)


@profiles.command("show")
def show_profile(
    study: StudyArg,
    name: NameArg,
    svg: Annotated[Path | None, typer.Option("--svg", help="Also write the picture to this file.")] = None,
    force: ForceOption = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a profile as bars."""
    from unharm.core.files.disk import refuse_existing, write_whole
    from unharm.core.values import VALUES
    from unharm.report import profile_picture

    refuse_existing([svg], force)
    profile = profile_picture.find_profile(_profiles(study, set_), name)
    if svg:
        write_whole(svg, profile_picture.profile_svg(profile).encode(), "the picture")
    if as_json:
        values = {v: profile[v] for v in VALUES}
        tell(json.dumps({"name": profile.name, "source": profile.source, "importances": values}))
    else:
        tell(profile_picture.profile_bars(profile))


@profiles.command("compare")
def compare_profiles(
    study: StudyArg,
    one: NameArg,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The name of another profile.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two profiles value by value."""
    from unharm.report import profile_picture

    loaded = _profiles(study, set_)
    pair = profile_picture.find_profile(loaded, one), profile_picture.find_profile(loaded, other)
    if as_json:
        tell(json.dumps(profile_picture.profile_comparison(*pair)))
    else:
        tell(profile_picture.comparison_text(*pair))


@corpus.command("make")
def make_corpus(
    study: StudyArg, set_: SetOption = None, into: IntoOption = None, as_json: JsonOption = False
) -> None:
    """Make the training examples of a study."""
    run_to(study, set_, "examples", as_json, into=into)


@corpus.command("audit")
def audit_corpus(
    study: StudyArg,
    scorer: Annotated[str, typer.Option("--scorer", help="The scorer of the texts.")] = "offline-toxicity",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print toxicity, balance, positives by profile, and near-duplicates of the training texts."""
    from unharm.runs.context import new_run
    from unharm.runs.tools.audit import MEASURES, audit, audit_text
    from unharm.scoring import SCORERS
    from unharm.scoring.registry import scorer_row
    from unharm.study.check import load_study

    loaded = load_study(study, set_)
    known = (*SCORERS, *loaded.scorers)
    fitting = [n for n in known if scorer_row(loaded.scoring, n).measures in MEASURES]
    if scorer not in fitting:
        raise UserError(f"{scorer!r} does not score texts", "--scorer", nearest(scorer, fitting))
    if loaded.corpus is None:
        raise UserError("this study has no corpus", study, "set corpus.arguments")
    result = audit(new_run(loaded), scorer)
    tell(json.dumps(result) if as_json else audit_text(result))
