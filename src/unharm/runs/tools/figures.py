"""The figures of a run for papers, drawn from its tables of findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.metrics import ALL
from unharm.analysis.over_seeds import alignment_over_seeds
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.disk import write_whole
from unharm.core.values import VALUES
from unharm.report.answers import preferred_reading
from unharm.report.chart_files import FORMATS, configured, drawn
from unharm.report.clustered import clustered_chart
from unharm.report.forest import ForestRow, forest_chart
from unharm.report.radar import TARGET, radar_chart
from unharm.report.scatter import scatter_chart, scatter_points
from unharm.report.sections import comparisons
from unharm.report.words import is_share, metric_name
from unharm.runs.handle import RunHandle, open_handle


@dataclass(frozen=True)
class FigureOptions:
    """What a figure shows. Empty names stand for the first that fits."""

    arm: str = ""
    profile: str = ""
    strategy: str = ""


def write_figure(folder: Path, name: str, files: list[Path], options: FigureOptions) -> None:
    """Draw a figure of a run and write it, once for each file.

    Args:
        folder: The run folder.
        name: One of `FIGURES`.
        files: Where it goes; the ending of each is its format.
        options: What it shows.

    Raises:
        UserError: The figure, a format, the arm or the profile is unknown, the findings are not made, or
            the run has nothing to draw.
    """
    problems = []
    if name not in FIGURES:
        problems.append(Problem(f"no figure {name!r}", "unharm figure", nearest(name, tuple(FIGURES))))
    for file in files:
        if file.suffix[1:].lower() not in FORMATS:
            todo = f"expected one of: {', '.join('.' + kind for kind in FORMATS)}"
            problems.append(
                Problem(f"no figures of the format {file.suffix or '(none)'!r}", str(file), todo)
            )
    raise_all(problems)
    run = open_handle(folder)
    specification = configured(FIGURES[name](run, _checked(run, options)))
    for file in files:
        write_whole(file, drawn(specification, file.suffix[1:].lower()), "the figure")


def _checked(run: RunHandle, options: FigureOptions) -> FigureOptions:
    """Return the options with names filled in. Raise `UserError` with every unknown name."""
    study = run.study
    problems = []
    for option, name, known in (
        ("--arm", options.arm, study.arms),
        ("--strategy", options.strategy, study.strategies),
    ):
        if name and name not in known:
            problems.append(Problem(f"not in this run: {name!r}", option, nearest(name, tuple(known))))
    raise_all(problems)
    return FigureOptions(options.arm, options.profile, options.strategy or study.strategies[0])


def _nothing(run: RunHandle, reason: str) -> UserError:
    return UserError(f"nothing to draw: {reason}", str(run.folder))


def _aligned(run: RunHandle, arm: str) -> list[str]:
    """Return the arms with profiles, the value-injected ones first; only `arm` if it is given."""
    arms = [a for a in run.study.arms if has_profile(a) and arm in ("", a)]
    if not arms:
        raise _nothing(run, "no arm has profiles" if not arm else f"{arm} has no profiles")
    return sorted(arms, key=lambda a: a not in VIM_STAGES)


def _stand_ins(frame: pl.DataFrame) -> str:
    return " († stand-in scorer)" if frame.height and frame["stand_in"].any() else ""


def _scatter(run: RunHandle, options: FigureOptions) -> Any:
    subjects = run.table("subjects")
    points = scatter_points(run.table("alignment"), subjects, _aligned(run, options.arm), options.strategy)
    if not points.height:
        raise _nothing(
            run, "no subject has both a rated profile and a harm; is a questionnaire in the study?"
        )
    base = subjects.filter(arm="vanilla", strategy=options.strategy, category=ALL).drop_nulls("value")
    vanilla = dict(base.group_by("metric").agg(pl.col("value").mean()).iter_rows())
    title = f"Harm and alignment by profile; dashed: vanilla{_stand_ins(points)}"
    return scatter_chart(points, vanilla, title)


def _heat_map(run: RunHandle, options: FigureOptions) -> Any:
    arm = _aligned(run, options.arm)[0]
    rows = run.table("associations").filter(arm=arm, strategy=options.strategy)
    if not rows["value"].count():
        raise _nothing(run, f"no value goes with a harm in {arm}: too few profiles, or no variance")
    title = f"{arm}: values and harms, clustered; ring: significant{_stand_ins(rows)}"
    return clustered_chart(rows, run.study.analysis.fdr, title)


def _radar(run: RunHandle, options: FigureOptions) -> Any:
    table = alignment_over_seeds(run.table("alignment")).filter(strategy=options.strategy)
    arms = _aligned(run, options.arm)
    names = table.filter(pl.col("arm").is_in(arms))["profile"].unique(maintain_order=True).to_list()
    if not names:
        raise _nothing(run, "no profile is rated; is a questionnaire in the study?")
    profile = options.profile or str(names[0])
    if profile not in names:
        raise UserError(f"no profile named {profile!r}", str(run.folder), nearest(profile, names))
    targets = table.filter(profile=profile).head(1).to_dicts()[0]
    shapes: dict[str, list[float | None]] = {TARGET: [targets[f"target_{v}"] for v in VALUES]}
    for arm in ("vanilla", *arms):
        ratings = preferred_reading(table, arm).filter(arm=arm)
        if arm != "vanilla":  # whose ratings are the same for every profile
            ratings = ratings.filter(profile=profile)
        for row in ratings.head(1).to_dicts():
            shapes[arm] = [row[f"predicted_{v}"] for v in VALUES]
    return radar_chart(shapes, f"Profile {profile}: target and ratings")


def _forest(run: RunHandle, options: FigureOptions) -> Any:
    table = run.table("comparisons").filter(strategy=options.strategy)
    rows = []
    for r in comparisons(table)["vanilla"]:
        if r["value"] is None or options.arm not in ("", r["arm"]):
            continue
        share = is_share(r["metric"])
        scale = 100.0 if share else 1.0
        low, high = (None if r[side] is None else r[side] * scale for side in ("low", "high"))
        label = f"{r['arm']}: {metric_name(r['metric'])}" + (" †" if r["stand_in"] else "")
        panel = (
            "against vanilla, percentage points"
            if share
            else f"against vanilla, {metric_name(r['metric'])}"
        )
        holds = r["p_adjusted"] is not None and r["p_adjusted"] <= run.study.analysis.fdr
        rows.append(ForestRow(label, panel, r["value"] * scale, low, high, holds))
    if not rows:
        raise _nothing(run, "no arm is compared with vanilla")
    confidence = f"{100 * run.study.analysis.confidence:g} %"
    title = f"Differences from vanilla, {confidence} intervals; filled: significant{_stand_ins(table)}"
    return forest_chart(rows, title)


FIGURES: dict[str, Callable[[RunHandle, FigureOptions], Any]] = {
    "scatter": _scatter,
    "heatmap": _heat_map,
    "radar": _radar,
    "forest": _forest,
}
"""The figures by name: harm against alignment, values × harms, a profile, differences from vanilla."""
