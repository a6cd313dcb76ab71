"""Renders the report: tables, charts and examples in one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from functools import cache, partial
from importlib import resources
from typing import Any

import polars as pl

from unharm.analysis.dose import NONE
from unharm.analysis.measures import of_quality
from unharm.analysis.over_seeds import alignment_over_seeds
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import VIM_STAGES, has_profile, without_doses
from unharm.report import sections
from unharm.report.answers import answers, preferred_reading
from unharm.report.behaviour import behaviour_section, costs_section, leakage_charts
from unharm.report.done import done_rows, view_command
from unharm.report.doses import dose_chart, doses_section
from unharm.report.figures import (
    alignment_chart,
    arms_chart,
    associations_chart,
    effects_chart,
    harm_name,
    training_chart,
)
from unharm.report.inputs import ReportedStudy, ReportInputs
from unharm.report.labels import labels_section
from unharm.report.mechanism import mechanism_charts, mechanism_section
from unharm.report.published import other_definitions, published_figures
from unharm.report.quality import quality_section
from unharm.report.runtime import vega_runtime
from unharm.report.templates import html_environment
from unharm.report.training_guards import guards_chart, guards_section
from unharm.report.variance import SOURCES, variance_rows
from unharm.report.words import (
    category_name,
    difference_interval,
    interval,
    is_share,
    metric_name,
    number,
    p_value,
    plain_interval,
    share_difference_interval,
    share_interval,
    signed,
)

MOST_SUBJECTS = 8
"""Arms and strategies that one chart can tell apart; of more, it shows those under the first strategy."""


def render(inputs: ReportInputs) -> str:
    """Render the page as HTML. The templates escape everything that comes from data or models."""
    inputs = _full_doses(inputs)
    alignment = alignment_over_seeds(inputs.tables["alignment"])
    inputs = replace(inputs, tables={**inputs.tables, "alignment": alignment})
    study, tables = inputs.study, inputs.tables
    groups = associations_by_subject(tables["associations"])
    template = page_environment().get_template("page.html.j2")
    runtime, script = vega_runtime(), page_script()
    page: str = template.render(
        policy=policy_for(runtime, script),
        study=study,
        record=inputs.record,
        answers=answers(study, tables),
        done=done_rows(study, tables, inputs.curves),
        view=partial(view_command, inputs.folder),
        compared=sections.comparisons(tables["comparisons"]),
        stated=sections.hypotheses(tables["hypotheses"]),
        detectable=sections.detectable_effects(tables["associations"], study),
        on_axes=sections.axes(tables["regressions"]),
        value_shifts=sections.value_shifts(tables["moved"], study),
        doses=doses_section(tables["dose"], study.analysis.keep_alignment),
        guarded=guards_section(tables["guards"], study.analysis.fdr),
        varied=variance_rows(tables["variance"], study.strategies[0]),
        sources=SOURCES,
        script=script,
        published=published_figures(study),
        other_definitions=other_definitions(study),
        expression=tables["expression"].to_dicts(),
        behaved=behaviour_section(tables, study),
        leakages=[name.removeprefix("leakage-") for name in leakage_charts(tables["leakage"], study)],
        costs=costs_section(tables["costs"]),
        mechanism=mechanism_section(tables),
        mitigation=sections.mitigation(inputs.mitigation),
        folder=inputs.folder,
        stand_ins=inputs.stand_ins,
        arms=[r for r in tables["arms"].to_dicts() if not of_quality(r["metric"])],
        quality=quality_section(tables),
        labelled=labels_section(tables, study.analysis.fdr),
        titles={name: row.title for name, row in BENCHMARKS.items()},
        alignment=alignment_readings(tables["alignment"], study),
        aligned=[a for a in study.arms if has_profile(a)],
        groups=[(title, smallest_p(part)) for title, part in groups],
        harm_name=harm_name,
        profiles=inputs.profiles,
        trained=trained_rows(inputs.curves),
        hardly_trained=inputs.hardly_trained,
        unequal=inputs.unequal,
        failed=inputs.failed,
        unscored=tables["unscored"].to_dicts(),
        completions=_completions(tables["scorers"]),
        notes=inputs.notes,
        examples=inputs.examples,
        charts=_charts(inputs, groups),
        runtime=runtime,
        settings=json.dumps(study.settings, indent=2),
    )
    return page


def _full_doses(inputs: ReportInputs) -> ReportInputs:
    """Return the inputs without doses of arms, but for the table of doses, which has its own section."""
    full = without_doses(inputs.study.arms)
    names = ("arms", "alignment", "moved", "variance", "expression")
    shown = {name: inputs.tables[name].filter(pl.col("arm").is_in(full)) for name in names}
    return replace(inputs, study=replace(inputs.study, arms=full), tables={**inputs.tables, **shown})


def _completions(scorers: pl.DataFrame) -> int:
    """Return the number of completions. A completion with several scorers counts once."""
    return int(scorers.filter(pl.col("role") == "metrics")["completions"].sum())


@cache
def page_environment() -> Any:
    """Return the template environment with its filters. Autoescaping is on; templates are compiled once."""
    environment = html_environment("unharm.report", ".")
    filters = (
        interval,
        is_share,
        number,
        plain_interval,
        share_interval,
        signed,
        difference_interval,
        share_difference_interval,
    )
    environment.filters.update({f.__name__: f for f in filters})
    environment.filters.update(category=category_name, inline=inline_json, metric=metric_name, p=p_value)
    return environment


def _charts(inputs: ReportInputs, groups: list[tuple[str, pl.DataFrame]]) -> dict[str, Any]:
    """Return the charts of the page by the name of their placeholder."""
    from altair.utils import schemapi

    with schemapi.debug_mode(False):  # checks take half of the time; tests make them
        return _built_charts(inputs, groups)


def _built_charts(inputs: ReportInputs, groups: list[tuple[str, pl.DataFrame]]) -> dict[str, Any]:
    study, tables, curves = inputs.study, inputs.tables, inputs.curves
    charts: dict[str, Any] = {}
    effects = sections.comparisons(tables["comparisons"])["vanilla"]
    if len({(r["arm"], r["strategy"]) for r in effects}) > MOST_SUBJECTS:
        effects = [r for r in effects if r["strategy"] == study.strategies[0]]
    if any(r["effect"] is not None and r["value"] for r in effects):
        charts["effects"] = effects_chart(effects, study.analysis.fdr)
    if tables["arms"].height:
        charts["arms"] = arms_chart(tables["arms"])
    for index, (_, part) in enumerate(groups):
        charts[f"associations-{index}"] = associations_chart(part, study.analysis.fdr)
    for arm in filter(has_profile, study.arms):
        if tables["alignment"].filter(pl.col("arm") == arm).height:
            rows = tables["alignment"].filter(pl.col("strategy") == study.strategies[0])
            charts[f"alignment-{arm}"] = alignment_chart(preferred_reading(rows, arm), arm)
    doses = doses_section(tables["dose"], study.analysis.keep_alignment)["rows"]
    if any(r["kind"] != NONE and r["alignment"] is not None for r in doses):
        charts["dose"] = dose_chart([r for r in doses if r["strategy"] == study.strategies[0]])
    guarded = guards_section(tables["guards"], study.analysis.fdr)["rows"]
    if any(r["alignment"] is not None for r in guarded):
        charts["guards"] = guards_chart(guarded)
    charts |= leakage_charts(tables["leakage"], study)
    charts |= mechanism_charts(tables)
    if curves.height:
        charts["training"] = training_chart(curves)
    return charts


def trained_rows(curves: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row per adapter: training losses and the validation loss of the best epoch."""
    rows = []
    keys = ["arm", "stage", "profile", "seed"]
    for (arm, stage, profile, seed), part in curves.group_by(keys, maintain_order=True):
        train, valid = (part.filter(pl.col("curve") == c)["loss"].to_list() for c in ("train", "valid"))
        best = part["best_epoch"][0]
        rows.append(
            {
                "arm": arm,
                "stage": stage,
                "profile": profile if seed is None else " · ".join(filter(None, (profile, f"seed {seed}"))),
                "epochs": len(valid),
                "best": best,
                "first": train[0] if train else None,
                "last": train[-1] if train else None,
                "valid": valid[best - 1] if valid else None,
            }
        )
    return rows


def associations_by_subject(associations: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Return the associations of each arm and strategy, with the value-injected arms first."""
    groups = associations.group_by(["arm", "strategy"], maintain_order=True)
    labelled = [(str(arm), str(strategy), part) for (arm, strategy), part in groups]
    return [
        (f"{arm} · {strategy}", part)
        for arm, strategy, part in sorted(labelled, key=lambda group: group[0] not in VIM_STAGES)
    ]


def smallest_p(part: pl.DataFrame, most: int = 10) -> list[dict[str, Any]]:
    """Return the associations with the smallest p values."""
    return part.drop_nulls("p").sort("p").head(most).to_dicts()


def alignment_readings(alignment: pl.DataFrame, study: ReportedStudy) -> list[dict[str, Any]]:
    """Return the alignment section for the sampled text and for the distribution over the answers.

    Each has one row per profile with the alignment row of each arm, and the probability mass of the six
    answers.
    """
    readings = []
    strategy = study.strategies[0]
    for reading in ("text", "distribution"):
        selected = alignment.filter((pl.col("strategy") == strategy) & (pl.col("reading") == reading))
        by_profile: dict[str, dict[str, Any]] = {}
        for row in selected.to_dicts():
            by_profile.setdefault(row["profile"], {})[row["arm"]] = row
        mass = {arm: selected.filter(pl.col("arm") == arm)["mass"].mean() for arm in study.arms}
        rows = [{"profile": profile, "arms": cells} for profile, cells in by_profile.items()]
        if rows:
            readings.append({"reading": reading, "rows": rows, "mass": mass})
    return readings


def policy_for(*scripts: str) -> str:
    """Return the Content-Security-Policy of a page: these scripts may run, by their hashes, nothing else.

    No network, no frames, no forms, no handlers in attributes; styles may stand in attributes, as charts
    have them. A browser then runs nothing that text of a model brings along, even where escaping failed.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def page_script() -> str:
    """Return the script that sorts and copies tables and draws the charts."""
    text = (resources.files("unharm.report") / "page.js").read_text(encoding="utf-8")
    return text.replace("\r", "")


def inline_json(data: Any) -> Any:
    """Return JSON that is safe inside a script element."""
    import markupsafe

    text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return markupsafe.Markup(text)
