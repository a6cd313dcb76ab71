"""The stage that writes the report from stored tables."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.schemas import COMPARISONS_SCHEMA, SCHEMAS
from unharm.analysis.tables import scorer_columns
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError
from unharm.core.progress import say
from unharm.report.inputs import ExampleCompletion, MitigationResult, ReportedStudy, ReportInputs
from unharm.report.latex import render_latex
from unharm.report.page import render
from unharm.runs.adapters import failed_names, loss_curves
from unharm.runs.context import Run
from unharm.runs.keys import Shard
from unharm.runs.shards import all_shards
from unharm.store.checked import read_checked
from unharm.store.store import Artefact, Store
from unharm.study.spec import Study
from unharm.training.loss_fall import hardly_trained

PER_SUBJECT = 2
"""Number of completions shown per benchmark and arm."""


def make_report(run: Run) -> None:
    """Write report.html: one page that needs no network."""
    with run.journaled("report", Artefact("report.html", "")):
        path = write_report(run)
    say(f"report: {path}")


def write_report(run: Run) -> Path:
    """Render `report.html` from the stored tables of a run and return its path."""
    run.store.pull("findings", "mitigation/findings")
    run.store.write_plain("report.html", render(report_inputs(run)))
    return run.store.root / "report.html"


def write_latex(folder: Path, study: Study) -> Path:
    """Write findings/tables.tex of a run. Raise `UserError` if the run has no findings."""
    tables = stored_tables(folder)
    Store(folder).write_plain("findings/tables.tex", render_latex(reported(study), tables))
    return folder / "findings" / "tables.tex"


def stored_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Read the tables of a run folder. Raise `UserError` if one is missing or of another version."""
    store = Store(folder)
    try:
        return {name: store.read_table(f"findings/{name}.csv", schema) for name, schema in SCHEMAS.items()}
    except (OSError, pl.exceptions.PolarsError):
        raise UserError(
            "the findings of this run are missing or from another version",
            str(folder / "findings"),
            "make them: unharm analyze STUDY",
        ) from None


def reported(study: Study) -> ReportedStudy:
    """Return the part of a study that the report shows."""
    return ReportedStudy(
        study.name,
        study.base,
        study.arms,
        study.strategies,
        study.seed,
        study.fidelity,
        study.analysis,
        study.model_dump(mode="json", exclude_none=True),
    )


def report_inputs(run: Run) -> ReportInputs:
    """Collect everything on the page. Raise `UserError` if the run has no manifest."""
    manifest = read_checked(run.store, "manifest.json")
    if manifest is None:
        raise UserError("this run has no manifest", str(run.store), "write it again: unharm run STUDY")
    stand_ins = [
        (BENCHMARKS[name].title, scorer, run.plan.scorers[scorer].description)
        for name, spec in run.study.benchmarks.chosen().items()
        for scorer in spec.scorers
        if run.plan.scorers[scorer].stand_in
    ]
    curves = loss_curves(run)
    return ReportInputs(
        reported(run.study),
        str(run.store.root),
        stored_tables(run.store.root),
        curves,
        json.loads(manifest),
        len(run.plan.profiles),
        stand_ins,
        [arm.sentence for arm in hardly_trained(curves)],
        failed_names(run),
        _notes(run),
        chosen_examples(run.store, all_shards(run)),
        _mitigation_result(run),
        run.plan.unequal_steps,
    )


def _notes(run: Run) -> list[tuple[str, str]]:
    """Return the notes on the prompts, and which system message all arms share in chats."""
    notes = [(BENCHMARKS[n].title, note) for n, p in run.plan.prompts.items() for note in p.notes]
    settings = run.study.prompting
    if settings.format == "chat":
        message = {"template": "the chat template's own, if it has one", "none": "none", "pack": ""}
        text = message[settings.system] or f"'{run.plan.chat_form.system}'"
        notes.append(
            ("Chats", f"every arm, in training and evaluation, has the same system message: {text}")
        )
    return notes


def _mitigation_result(run: Run) -> MitigationResult | None:
    """What mitigation left in the run folder; None where nothing was tried, or it was scored otherwise
    than the study is now."""
    root = run.store.root
    try:
        comparisons = run.store.read_table("mitigation/findings/comparisons.csv", COMPARISONS_SCHEMA)
        learned = run.store.read_table("findings/set_aside.csv").to_dicts()
        guards = json.loads((root / "findings/guards.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return None
    current = _scorers(run)
    for row in comparisons.to_dicts():
        scorer = current.get(row["benchmark"], row)
        if any(row[c] != scorer[c] for c in ("scorer", "scorer_version")):
            return None
    return MitigationResult(comparisons, learned, guards)


def _scorers(run: Run) -> dict[str, dict[str, Any]]:
    """Return the scorer columns of each benchmark's tables for the current study."""
    plan = run.plan
    columns = {}
    for name, spec in run.study.benchmarks.chosen().items():
        fitted = plan.calibration(name)
        columns[name] = scorer_columns(
            spec.scorer, plan.scorers, fitted.for_arm("vanilla") if fitted else None
        )
    return columns


def chosen_examples(store: Store, shards: list[Shard]) -> list[ExampleCompletion]:
    """The highest-scored completions of the first subject of each arm, per benchmark."""
    shown: list[ExampleCompletion] = []
    seen: dict[tuple[str, str], None] = {}
    for (subject, benchmark), group in groupby(shards, key=lambda s: (s.subject, s.benchmark)):
        if (subject.arm, benchmark) in seen:
            continue
        seen[subject.arm, benchmark] = None
        parts = list(group)
        scores = pl.concat([store.scan(s.scores) for s in parts]).select("completion_id", "value")
        texts = pl.concat([store.scan(s.completions) for s in parts])
        best = (
            texts.join(scores, on="completion_id")
            .sort(
                "value",
                "prompt_id",
                "sample",
                descending=[True, False, False],
                nulls_last=True,
            )
            .unique("prompt_id", keep="first", maintain_order=True)
            .head(PER_SUBJECT)
            .collect()
        )
        prompts = {p.id: p for s in parts for p in s.prompts}
        for row in best.to_dicts():
            prompt = prompts[row["prompt_id"]]
            shown.append(
                ExampleCompletion(
                    benchmark, subject.label, prompt.category, prompt.text, row["text"], row["value"]
                )
            )
    return sorted(shown, key=lambda s: [s.benchmark for s in shown].index(s.benchmark))
