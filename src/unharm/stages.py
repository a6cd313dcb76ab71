"""The stages of a study. Each reads top to bottom: plan the tasks, skip the done, do the rest."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import polars as pl

from unharm import keys
from unharm.naming import content_hash, content_key
from unharm.plan import AdapterPlan
from unharm.progress import say
from unharm.records import Example, Subject, schema_of
from unharm.store import Artefact
from unharm.values import VALUES

if TYPE_CHECKING:
    from unharm.pipeline import Run


def make_profiles(run: Run) -> None:
    """profiles/profiles.csv: name, source and ten importances of every profile."""
    artefact = keys.profiles_artefact(run.plan)
    if run.store.done(artefact):
        return
    rows = [
        {"name": p.name, "source": p.source, **dict(zip(VALUES, p.importances, strict=True))}
        for p in run.plan.profiles
    ]
    with run.recorded("profiles", artefact):
        run.store.put_table(artefact, pl.DataFrame(rows))


def make_examples(run: Run) -> None:
    """examples/<stage>/<profile>.parquet: what each adapter learns, with its split."""
    tasks = {keys.examples_artefact(run.plan, a): a for a in run.plan.trained}
    pending = {t: a for t, a in tasks.items() if not run.store.done(t)}
    with run.progress("examples", len(tasks), "sets", len(tasks) - len(pending)) as progress:
        for artefact, adapter in pending.items():
            with run.recorded("examples", artefact):
                examples = run.plan.examples(adapter)
                frame = pl.DataFrame([asdict(e) for e in examples], schema=schema_of(Example))
                run.store.put_table(artefact, frame)
            progress.tick(1)


def make_adapters(run: Run) -> None:
    """adapters/<hash>/: a PEFT folder per adapter; see `unharm.training.stage`."""
    from unharm.training import stage

    stage.make_adapters(run)
    for label, why in run.failed.items():
        say(f"{label}: not trained, and left out of what follows ({why})")


def left_out(run: Run) -> dict[str, int]:
    """How many examples each adapter did not learn because they were too long; zeros are left out."""
    counts = {}
    for adapter in run.plan.adapters:
        marker = run.store.marker(keys.adapter_artefact(run.plan, adapter, run.base.key))
        if marker and marker["left_out_too_long"]:
            counts[f"{adapter.label} · {adapter.stage}"] = int(marker["left_out_too_long"])
    return counts


def failed_adapters(run: Run) -> dict[AdapterPlan, str]:
    """The adapters that could not be trained, or were refused, and why; their subjects are left out."""
    from unharm.training.adapters import failure

    found = {a: failure(run, a) for a in run.plan.adapters}
    return {a: why for a, why in found.items() if why}


def planned_shards(run: Run) -> list[keys.Shard]:
    """All shards of the study, subject by subject; the adapters must be done."""
    missing = failed_adapters(run)
    return [
        shard
        for subject in run.plan.subjects
        if run.plan.adapter_of(subject) not in missing
        for shard in shards_of(run, subject)
    ]


def shards_of(run: Run, subject: Subject) -> list[keys.Shard]:
    """All shards of a subject; its adapter must be done."""
    return list(keys.shards(run.plan, subject, run.base.key, _adapter_hash(run, subject)))


def _adapter_hash(run: Run, subject: Subject) -> str:
    """The content hash of a subject's adapter, or nothing where it has none."""
    from unharm.training.adapters import adapter_folder

    folder = adapter_folder(run, subject)
    return folder.name if folder else ""


def make_completions(run: Run) -> None:
    """completions/<subject>/<benchmark>/; see `unharm.engines.stage`."""
    from unharm.engines import stage

    stage.make_completions(run)


def make_scores(run: Run) -> None:
    """scores/<subject>/<benchmark>/; see `unharm.scoring.stage`."""
    from unharm.scoring import stage

    stage.make_scores(run)


def make_findings(run: Run) -> None:
    """findings/*.csv: metrics by subject and arm, alignment check, associations, unscored."""
    from unharm.analysis.schemas import SCHEMAS
    from unharm.analysis.study_tables import study_tables

    shards = run.shards
    key = findings_key(run, shards)
    artefacts = {name: Artefact(f"findings/{name}.csv", key) for name in SCHEMAS}
    if all(run.store.done(a) for a in artefacts.values()):
        say("findings: already there")
        return
    began = time.monotonic()
    tables = study_tables(run.study, run.plan, run.store, shards)
    for name, artefact in artefacts.items():
        with run.recorded("findings", artefact):
            run.store.put_table(artefact, tables[name])
    say(f"findings: {len(tables['associations'])} associations in {time.monotonic() - began:.1f} s")


def findings_key(run: Run, shards: list[keys.Shard]) -> str:
    """Depends on every score and completion, the subjects' names and the analysis settings. Their
    content counts too: what a server failed to answer at first may be answered in a later run."""

    def content(artefact: Artefact) -> str:
        return str((run.store.marker(artefact) or {})["sha256"])

    made = [
        [s.subject.label, content(s.completions), *([a.key, content(a)] for a in s.scored.values())]
        for s in shards
    ]
    beside = [
        [name, found.key if (found := run.plan.calibration(name)) else "", _labels(run, name)]
        for name in run.study.benchmarks.chosen()
    ]
    return content_key(
        "findings",
        keys.VERSIONS["findings"],
        run.study.analysis.model_dump() | {"fidelity": run.study.fidelity},
        keys.profiles_artefact(run.plan).key,
        content_hash(made),
        content_hash([*beside, run.plan.stated.key]),
    )


def make_mitigation(run: Run) -> None:
    """mitigation/: the second half of prompts and profiles under four strategies, where the study asks for
    it; see `unharm.mitigate`."""
    if run.study.mitigation is None:
        return
    from unharm.mitigate import mitigate, too_small

    if reason := too_small(run):
        say(f"mitigation: not tried, {reason}")
    else:
        tried = mitigate(run)
        run.workers.failures += [f"{tried.study.name}: {name}" for name in tried.workers.failures]


def _labels(run: Run, benchmark: str) -> list[list[str | float]]:
    """What people said of the completions of a benchmark."""
    people = run.plan.people(benchmark)
    return [] if people is None else [list(row) for row in people.rows()]


def make_report(run: Run) -> None:
    """report.html: one page that needs no network."""
    from unharm.report.page import write_report

    with run.recorded("report", Artefact("report.html", "")):
        path = write_report(run, run.shards)
    say(f"report: {path}")
