"""The page: tables, charts and examples in one HTML file that needs no network."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import polars as pl

from unharm.analysis.measures import of_quality
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.report import sections
from unharm.report.answers import answers, halved, read_from
from unharm.report.figures import (
    alignment_chart,
    arms_chart,
    associations_chart,
    effects_chart,
    harm_name,
    training_chart,
)
from unharm.report.inputs import ReportedStudy, ReportInputs
from unharm.report.published import published
from unharm.report.quality import quality
from unharm.report.words import (
    category_name,
    interval,
    is_share,
    metric_name,
    number,
    p_value,
    plain_interval,
    share_interval,
    signed,
    spread,
    spread_of_shares,
)


def render(inputs: ReportInputs) -> str:
    """The page as text. Everything that comes from data or models is escaped by the template."""
    study, tables = inputs.study, inputs.tables
    groups = associations_by_subject(tables["associations"])
    template = _environment().get_template("page.html.j2")
    page: str = template.render(
        study=study,
        record=inputs.record,
        answers=answers(study, tables),
        compared=sections.comparisons(tables["comparisons"]),
        stated=sections.hypotheses(tables["hypotheses"]),
        powers=sections.powers(tables["associations"], study),
        on_axes=sections.axes(tables["regressions"]),
        moved=sections.moved(tables["moved"], study),
        script=_script(),
        published=published(study),
        expression=tables["expression"].to_dicts(),
        mitigation=sections.mitigation(inputs.tried),
        folder=inputs.folder,
        stand_ins=inputs.stand_ins,
        arms=[r for r in tables["arms"].to_dicts() if not of_quality(r["metric"])],
        quality=quality(tables),
        titles={name: row.title for name, row in BENCHMARKS.items()},
        alignment=alignment_readings(tables["alignment"], study),
        aligned=[a for a in study.arms if has_profile(a)],
        groups=[(title, strongest(part)) for title, part in groups],
        harm_name=harm_name,
        profiles=inputs.profiles,
        trained=trained_rows(inputs.curves),
        failed=inputs.failed,
        unscored=tables["unscored"].to_dicts(),
        completions=_completions(tables["scorers"]),
        notes=inputs.notes,
        examples=inputs.examples,
        charts=_charts(inputs, groups),
        runtime=_runtime(),
        settings=json.dumps(study.settings, indent=2),
    )
    return page


def _completions(scorers: pl.DataFrame) -> int:
    """The completions of a study, each counted once however many scorers look at it."""
    return int(scorers.filter(pl.col("role") == "metrics")["completions"].sum())


def _environment() -> Any:
    """The templates with their filters. Everything that comes from data or models is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unharm.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (interval, is_share, number, plain_interval, share_interval, signed, spread, spread_of_shares)
    environment.filters.update({f.__name__: f for f in filters})
    environment.filters.update(category=category_name, inline=_inline_json, metric=metric_name, p=p_value)
    return environment


def _charts(inputs: ReportInputs, groups: list[tuple[str, pl.DataFrame]]) -> dict[str, Any]:
    """The charts of the page by their place."""
    study, tables, curves = inputs.study, inputs.tables, inputs.curves
    charts: dict[str, Any] = {}
    effects = sections.comparisons(tables["comparisons"])["vanilla"]
    if any(r["effect"] is not None for r in effects):
        charts["effects"] = effects_chart(effects, study.analysis.fdr)
    if tables["arms"].height:
        charts["arms"] = arms_chart(tables["arms"])
    for place, (_, part) in enumerate(groups):
        charts[f"associations-{place}"] = associations_chart(part, study.analysis.fdr)
    for arm in filter(has_profile, study.arms):
        if tables["alignment"].filter(pl.col("arm") == arm).height:
            here = tables["alignment"].filter(pl.col("strategy") == study.strategies[0])
            charts[f"alignment-{arm}"] = alignment_chart(read_from(here, arm), arm)
    if curves.height:
        charts["training"] = training_chart(curves)
    return charts


def trained_rows(curves: pl.DataFrame) -> list[dict[str, Any]]:
    """One row per adapter: its last training loss and the validation loss of the epoch kept."""
    rows = []
    for (arm, stage, profile), part in curves.group_by(["arm", "stage", "profile"], maintain_order=True):
        train, valid = (part.filter(pl.col("curve") == c)["loss"].to_list() for c in ("train", "valid"))
        best = part["best_epoch"][0]
        rows.append(
            {
                "arm": arm,
                "stage": stage,
                "profile": profile,
                "epochs": len(valid),
                "best": best,
                "first": train[0] if train else None,
                "last": train[-1] if train else None,
                "valid": valid[best - 1] if valid else None,
            }
        )
    return rows


def associations_by_subject(associations: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The associations of each arm and strategy, the value-injected arms first."""
    groups = associations.group_by(["arm", "strategy"], maintain_order=True)
    named = [(str(arm), str(strategy), part) for (arm, strategy), part in groups]
    return [
        (f"{arm} · {strategy}", part)
        for arm, strategy, part in sorted(named, key=lambda group: group[0] not in VIM_STAGES)
    ]


def strongest(part: pl.DataFrame, most: int = 10) -> list[dict[str, Any]]:
    """The associations of a group with the smallest p values."""
    return part.drop_nulls("p").sort("p").head(most).to_dicts()


def alignment_readings(alignment: pl.DataFrame, study: ReportedStudy) -> list[dict[str, Any]]:
    """For the sampled text and for the distribution over the answers: one row per profile with the
    alignment row of each arm, the profiles that came near, and the mass of the six answers."""
    found = []
    strategy = study.strategies[0]
    for reading in ("text", "distribution"):
        here = alignment.filter((pl.col("strategy") == strategy) & (pl.col("reading") == reading))
        by_profile: dict[str, dict[str, Any]] = {}
        for row in here.to_dicts():
            by_profile.setdefault(row["profile"], {})[row["arm"]] = row
        mass = {arm: here.filter(pl.col("arm") == arm)["mass"].mean() for arm in study.arms}
        near = {arm: halved(here, arm, strategy) for arm in study.arms if has_profile(arm)}
        rows = [{"profile": profile, "arms": cells} for profile, cells in by_profile.items()]
        if rows:
            found.append({"reading": reading, "rows": rows, "halved": near, "mass": mass})
    return found


def _script() -> str:
    """What sorts and copies tables."""
    return (resources.files("unharm.report") / "page.js").read_text(encoding="utf-8")


def _runtime() -> str:
    """The Vega-Lite runtime as JavaScript that is safe inside a script element."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # the stub lacks the default
    return bundle.replace("</script", "<\\/script")


def _inline_json(data: Any) -> Any:
    """JSON that is safe inside a script element."""
    import markupsafe

    text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return markupsafe.Markup(text)
