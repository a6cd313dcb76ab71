"""A pilot: score a sample with two scorers while both exist, and fit a map from one to the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.bridge import POWER, Bridge, fit_bridge
from unharm.analysis.measures import MEASURES
from unharm.analysis.score_maps import save_map
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError, nearest
from unharm.core.progress import say
from unharm.core.records import Completion, Score
from unharm.runs.context import Run, new_run
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.runs.tools.pilot_sample import sizes_of, spread
from unharm.scoring import SCORERS
from unharm.scoring.registry import scorer_row
from unharm.scoring.service_scorer import ServiceScorer
from unharm.scoring.texts import Text, text_of
from unharm.study.spec import Study

REFERENCE = "vanilla"
READ = ("completion_id", "prompt_id", "sample", "text", "finish", "prompt_tokens", "tokens", "status")


def pilot(study: Study, old: str, new: str, n: int, benchmark: str | None, out: Path) -> dict[str, Any]:
    """Score a sample of a study's completions with two scorers, fit a map and write it.

    Completions are generated first where they are missing. Answers of services and guards are stored: the
    same command goes on after a stop, and a later `unharm score` does not ask again.

    Args:
        study: The study. Both scorers are built in or among its `scorers`.
        old: The scorer whose units are wanted, which will be gone.
        new: The scorer that stays.
        n: Texts in all.
        benchmark: Whose completions are scored; None where only one fits.
        out: The file of the map.

    Returns:
        The file, the names, one row per arm, and the texts that stay unscored by scorer and reason.

    Raises:
        UserError: A scorer is unknown or cannot be used, fits no benchmark, or too few texts are scored.
    """
    chosen = _benchmark(study, old, new, benchmark)
    if REFERENCE not in study.arms:
        raise UserError(f"a map is fitted on {REFERENCE}, which is no arm of this study", "arms")
    rows = {name: scorer_row(study.scoring, name) for name in (old, new)}
    with new_run(study) as trial:
        trial.scorers.check([old, new])
    run_study(study, "completions").close()
    with new_run(study) as run, run.store.lock():
        run.store.refresh()
        texts = _sample(run, chosen, n)
        scores = {}
        for name in (old, new):
            say(f"pilot: {len(texts):,} texts with {name}")
            scorer = run.scorers[name]
            scores[name] = scorer([text for _, _, text in texts])
            if isinstance(scorer, ServiceScorer):
                say(f"pilot: {name}: {scorer.summary()}")
    pairs = pl.DataFrame(
        {
            "arm": [arm for arm, _, _ in texts],
            "group": [group for _, group, _ in texts],
            "one": [s.value for s in scores[new]],
            "other": [s.value for s in scores[old]],
        },
        schema={"arm": pl.String, "group": pl.String, "one": pl.Float64, "other": pl.Float64},
    )
    one, other = ((name, rows[name].version) for name in (new, old))
    confidence = study.analysis.confidence
    fitted = fit_bridge(pairs, one, other, rows[old].measures, REFERENCE, confidence, study.seed)
    save_map(fitted, out)
    return described(fitted, chosen, out) | {"unscored": _reasons(scores)}


def described(fitted: Bridge, benchmark: str, out: Path) -> dict[str, Any]:
    """Return what a map's file says, without the map."""
    return {
        "map": str(out),
        "key": fitted.key,
        "benchmark": benchmark,
        "one": fitted.one,
        "other": fitted.other,
        "prompts": fitted.prompts,
        "rank_correlation": fitted.rank_correlation,
        "confidence": fitted.confidence,
        "arms": {arm: asdict(test) | {"shifted": test.shifted} for arm, test in fitted.arms.items()},
        "untested": fitted.untested(list(fitted.arms)),
    }


def pilot_text(result: Mapping[str, Any]) -> str:
    """Return the outcome of a pilot as text."""
    arms: Mapping[str, Mapping[str, Any]] = result["arms"]
    one, other = result["one"], result["other"]
    texts = sum(row["texts"] for row in arms.values())
    lines = [
        f"{one} → {other} on {result['benchmark']}: {texts:,} texts of {result['prompts']:,} prompts, "
        f"fitted on {REFERENCE}, rank correlation {result['rank_correlation']:.2f}"
    ]
    wide = max(len(one), len(other), 8)
    head = f"  {'arm':16}{'texts':>7}{'unscored':>10}{one:>{wide + 2}}{other:>{wide + 2}}"
    lines.append(head + f"{'shift':>9}   {100 * result['confidence']:g} % interval        p   finds from")
    for arm, row in arms.items():
        line = f"  {arm:16}{row['texts']:>7,}{row['unscored']:>10,}"
        line += f"{row['mean_one']:>{wide + 2}.3f}{row['mean_other']:>{wide + 2}.3f}"
        if row["shift"] is not None:
            line += f"{row['shift']:>+9.3f}   {row['low']:+.3f} to {row['high']:+.3f}{row['p']:>9.3g}"
            line += f"{row['detectable']:>13.3f}" + ("   shifted" if row["shifted"] else "")
        lines.append(line.rstrip())
    lines += _sentences(result)
    lines.append(
        f"map: {result['map']}; name it in benchmarks.{result['benchmark']}.mapped, with scorer: {one}"
    )
    return "\n".join(lines)


def _sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what the table means, and what stayed unscored."""
    lines = [
        f"shift: how much more {result['other']} says in an arm than {REFERENCE}'s map expects; one as "
        f"large as 'finds from' is found with a chance of {POWER:.0%}"
    ]
    shifted = [arm for arm, row in result["arms"].items() if row["shifted"]]
    if shifted:
        lines.append(
            f"the scorers differ in another way on {', '.join(shifted)} than on {REFERENCE}: mapped "
            "metrics carry the shift and its error; do not trust the map for arms that are not listed"
        )
    for arm in result["untested"]:
        lines.append(f"{arm} has too few texts: it gets the map of {REFERENCE}, untested")
    for scorer, reasons in result["unscored"].items():
        lines += [f"unscored by {scorer}: {count:,} {reason}" for reason, count in reasons.items()]
    return lines


def _benchmark(study: Study, old: str, new: str, name: str | None) -> str:
    """Return the benchmark that a pilot is about. Raise `UserError` where scorers do not fit it."""
    known = (*SCORERS, *study.scorers)
    for scorer, option in ((old, "--from"), (new, "--to")):
        if scorer not in known:
            raise UserError(f"unknown scorer {scorer!r}", option, nearest(scorer, known))
        measures = scorer_row(study.scoring, scorer).measures
        if measures not in MEASURES:
            raise UserError(f"{scorer!r} measures {measures}, which is no harm", option)
    if old == new:
        raise UserError(f"{old!r} is both scorers", "--to", "name the scorer that stays")
    measures = scorer_row(study.scoring, old).measures
    fitting = [b for b in study.benchmarks.chosen() if measures in BENCHMARKS[b].measures]
    if name is not None and name not in fitting:
        todo = f"expected one of: {', '.join(fitting)}" if fitting else "choose another scorer or study"
        raise UserError(f"{old!r} does not score {name!r}", "--benchmark", todo)
    if name is None and len(fitting) != 1:
        what = (
            f"{old!r} scores {', '.join(fitting)}"
            if fitting
            else f"{old!r} scores no benchmark of this study"
        )
        raise UserError(what, "--benchmark", "say which one")
    return name or fitting[0]


def _sample(run: Run, benchmark: str, n: int) -> list[tuple[str, str, Text]]:
    """Return arm, prompt id and text of the drawn completions. Failed and empty ones are not drawn."""
    frames: dict[str, list[pl.DataFrame]] = {}
    prompts = {p.id: p for p in run.plan.prompts[benchmark].prompts}
    for shard in all_shards(run):
        if shard.benchmark == benchmark:
            frame = run.store.scan(shard.completions).select(READ)
            fit = frame.filter((pl.col("status") == "completed") & (pl.col("text").str.strip_chars() != ""))
            frames.setdefault(shard.subject.arm, []).append(fit.collect())
    tables = {arm: pl.concat(parts) for arm, parts in frames.items()}
    sizes = sizes_of(n, {arm: table.height for arm, table in tables.items()}, REFERENCE)
    drawn: list[tuple[str, str, Text]] = []
    for arm, table in tables.items():
        ids = list(table.select("completion_id", "prompt_id").iter_rows())
        if not ids:
            continue
        wanted = spread(ids, prompts, sizes[arm], run.study.seed)
        part = table.filter(pl.col("completion_id").is_in(wanted))
        for row in part.iter_rows():
            completion = Completion(*row)
            text = text_of(BENCHMARKS[benchmark].scored_text, prompts[completion.prompt_id], completion)
            drawn.append((arm, completion.prompt_id, replace(text, id=f"{len(drawn)}")))
    return drawn


def _reasons(scores: Mapping[str, list[Score]]) -> dict[str, dict[str, int]]:
    """Return how many texts stay unscored, by scorer and reason."""
    return {
        name: dict(Counter(f"{s.status} ({s.reason})" for s in several if s.value is None))
        for name, several in scores.items()
    }
