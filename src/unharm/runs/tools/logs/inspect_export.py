"""Writes a run as logs of inspect_ai: one file per subject and benchmark.

A prompt is a sample, its completions are epochs, every scorer of the benchmark is a scorer of the log. What
inspect_ai has no field for is in the metadata under `unharm`, where `inspect_log` finds it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unharm.analysis.measures import FIRST_METRICS, bounds_of
from unharm.analysis.scored_log import MAXIMUM
from unharm.core.hashing import content_hash
from unharm.core.records import Prompt
from unharm.core.values import VALUES
from unharm.core.version import __version__
from unharm.runs.adapters import adapter_folder
from unharm.runs.context import Run
from unharm.runs.tools.logs.exported import (
    ExportedLog,
    answers,
    check_free,
    selected,
    write_logs,
    written_at,
)
from unharm.runs.tools.logs.inspect_log import OURS
from unharm.runs.tools.logs.inspect_package import needed
from unharm.runs.tools.logs.inspect_writer import write_log

STOPPED = {"stop": "stop", "length": "max_tokens"}
"""The reasons why a completion ended, in the words of inspect_ai; others are `unknown`."""
RATINGS = (1.0, 6.0)
"""The range of the ratings of a questionnaire."""


def export_inspect(
    run: Run, folder: Path, arms: list[str], benchmarks: list[str], force: bool = False
) -> list[Path]:
    """Write the logs of a finished run.

    Args:
        run: The run.
        folder: Where the logs go; it is made, and only the user may read what is in it.
        arms: Only these arms, or all if the list is empty.
        benchmarks: Only these benchmarks, or all if the list is empty.
        force: Whether logs that exist are written again.

    Returns:
        The files.

    Raises:
        UserError: inspect_ai is missing, a name is unknown, or a log exists.
    """
    needed("inspect_ai.log", str(folder))
    logs = list(selected(run, folder, arms, benchmarks, ".eval"))
    check_free(logs, force)

    def write(log: ExportedLog, path: Path) -> None:
        write_log(_eval_log(run, log), path)

    return write_logs(logs, folder, "inspect", "logs", write)


def _eval_log(run: Run, log: ExportedLog) -> Any:
    """Return a log with its samples and results."""
    package = needed("inspect_ai.log", str(log.file))
    model = needed("inspect_ai.model", str(log.file))
    settings = run.study.benchmarks.chosen()[log.benchmark]
    prompts = {p.id: p for p in run.plan.prompts[log.benchmark].prompts}
    frame = answers(run, log, settings.scorers)
    samples = [_sample(package, model, run, row, prompts, settings.scorers) for row in frame.to_dicts()]
    created = written_at(run, log)
    reducer = MAXIMUM if run.plan.measure(log.benchmark) == "toxicity" else "mean"
    identities = list(dict.fromkeys(sample.id for sample in samples))
    spec = package.EvalSpec(
        created=created,
        task=log.benchmark,
        task_id=f"{log.benchmark}-{content_hash(log.subject.label)[:12]}",
        task_version=content_hash([[p.id, p.text] for p in prompts.values()])[:12],
        dataset=package.EvalDataset(name=log.benchmark, samples=len(identities), sample_ids=identities),
        model=f"unharm/{run.base.name}",
        model_generate_config=model.GenerateConfig(
            temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens
        ),
        config=package.EvalConfig(epochs=settings.samples, epochs_reducer=[reducer]),
        packages={"unharm": __version__},
        tags=[log.subject.arm],
        metadata={OURS: _metadata(run, log)},
    )
    return package.EvalLog(
        status="success",
        eval=spec,
        plan=package.EvalPlan(name=log.subject.label, steps=[]),
        results=_results(package, samples, settings.scorers, reducer),
        stats=package.EvalStats(started_at=created, completed_at=created),
        samples=samples,
    )


def _sample(
    package: Any, model: Any, run: Run, row: dict[str, Any], prompts: dict[str, Prompt], scorers: list[str]
) -> Any:
    """Return a completion as a sample of inspect_ai."""
    scorer_package = needed("inspect_ai.scorer", str(run.store.root))
    prompt = prompts[row["prompt_id"]]
    failed = row["status"] == "failed"
    output = model.ModelOutput.from_content(
        f"unharm/{run.base.name}", row["text"], stop_reason=STOPPED.get(row["finish"], "unknown")
    )
    tokens = row["prompt_tokens"], row["tokens"]
    usage = model.ModelUsage(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens))
    output.usage = usage
    scores = {}
    for name in scorers:
        value, status = row[f"value:{name}"], row[f"status:{name}"]
        if status is None:  # this scorer has no row for it
            continue
        scores[name] = scorer_package.Score(
            value=float("nan") if value is None else value,
            explanation=row[f"label:{name}"] or None,
            metadata={"status": status, "reason": row[f"reason:{name}"]} if value is None else None,
        )
    error = package.EvalError(message=row["reason"], traceback="", traceback_ansi="") if failed else None
    return package.EvalSample(
        id=prompt.id,
        epoch=row["sample"] + 1,
        input=prompt.text,
        target="",
        messages=[
            model.ChatMessageUser(content=prompt.text),
            model.ChatMessageAssistant(content=row["text"], source="generate"),
        ],
        output=output,
        scores=scores,
        metadata={"category": prompt.category, "completion_id": row["completion_id"], **prompt.attributes},
        error=error,
    )


def _metadata(run: Run, log: ExportedLog) -> dict[str, Any]:
    """Return what inspect_ai has no field for."""
    subject, rows = log.subject, run.plan.scorers
    settings = run.study.benchmarks.chosen()[log.benchmark]
    folder = adapter_folder(run, subject)
    ranges = {}
    for name in settings.scorers:
        measure = rows[name].measures
        if measure in FIRST_METRICS:
            ranges[name] = list(bounds_of(FIRST_METRICS[measure]))
        elif measure == "rating":
            ranges[name] = list(RATINGS)
    data: dict[str, Any] = {
        "study": run.study.name,
        "unharm": __version__,
        "arm": subject.arm,
        "strategy": subject.strategy,
        "profile": subject.profile_name,
        "seed": subject.seed,
        "base": {"name": run.base.name, "revision": run.base.revision, "key": run.base.key},
        "adapter": folder.name if folder else "",
        "measure": run.plan.measure(log.benchmark),
        "scorers": {
            n: {"version": rows[n].version, "stand_in": rows[n].stand_in} for n in settings.scorers
        },
        "ranges": ranges,
    }
    if subject.profile:
        data["importances"] = dict(zip(VALUES, subject.profile.importances, strict=True))
    return data


def _results(package: Any, samples: list[Any], scorers: list[str], reducer: str) -> Any:
    """Return the mean of every scorer over samples, each reduced over its epochs first."""
    rows = []
    for name in scorers:
        by_prompt: dict[str, list[float]] = {}
        unscored = 0
        for sample in samples:
            score = sample.scores.get(name)
            if score is None or score.value != score.value:
                unscored += 1
            else:
                by_prompt.setdefault(sample.id, []).append(float(score.value))
        reduced = [max(v) if reducer == MAXIMUM else sum(v) / len(v) for v in by_prompt.values()]
        metrics = {}
        if reduced:
            value = sum(reduced) / len(reduced)
            metrics = {"mean": package.EvalMetric(name="mean", value=value)}
        rows.append(
            package.EvalScore(
                name=name,
                scorer=name,
                reducer=reducer,
                scored_samples=len(reduced),
                unscored_samples=unscored,
                metrics=metrics,
            )
        )
    return package.EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=rows)
