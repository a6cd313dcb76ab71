"""The mitigation stage: learn on one half of the data which values to set aside, and test it on the other.

Prompts and profiles of a run are split in two halves by the study's seed. On the first half, its scores
show which value increases with the harm of each category. On the second half, which was not used before,
vanilla and the aligned arm run with all four strategies, in a run folder inside the first one. Refusals of
harmless questions, coherence and length measure the cost of a strategy.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import yaml

from unharm.analysis.clustered_ranks import associate
from unharm.analysis.comparisons import Cells
from unharm.analysis.intervals import adjusted, spearman
from unharm.analysis.measures import FIRST_METRICS
from unharm.analysis.schemas import COMPARISONS_SCHEMA
from unharm.benchmarks.registry import HARMLESS, select_half
from unharm.core.arms import STRATEGIES, VIM_STAGES, has_profile
from unharm.core.draws import rank
from unharm.core.errors import UserError, nearest
from unharm.core.files.yaml_text import SpecText
from unharm.core.progress import say
from unharm.core.values import VALUES
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run
from unharm.runs.execute import Stage, execute
from unharm.runs.plan import Plan
from unharm.runs.stages.adapters import make_adapters
from unharm.runs.stages.completions import make_completions
from unharm.runs.stages.examples import make_examples
from unharm.runs.stages.findings import make_findings, study_cells
from unharm.runs.stages.profiles import make_profiles
from unharm.runs.stages.report import make_report
from unharm.runs.stages.scores import check_scorers, make_scores
from unharm.store.store import Store
from unharm.store.tables import csv_bytes
from unharm.study.check import parse_study
from unharm.study.spec import REQUEST_BENCHMARKS, Mitigation, Study

FOLDER = "mitigation"

SECOND_HALF: list[tuple[str, Stage]] = [
    ("profiles", make_profiles),
    ("examples", make_examples),
    ("adapters", make_adapters),
    ("completions", make_completions),
    ("scores", make_scores),
    ("findings", make_findings),
    ("report", make_report),
]
"""The stages of the study of the second half."""


@dataclass(frozen=True)
class Learned:
    """The value whose importance goes up most with the harm of a category, over the first half; empty where
    none goes up. `p_adjusted` counts the ten values that were looked at (Bonferroni) and all categories
    (Benjamini-Hochberg)."""

    benchmark: str
    category: str
    value: str
    r: float | None
    p: float | None
    p_adjusted: float | None
    profiles: int
    prompts: int


def aligned_arm(study: Study) -> str:
    """Return the arm to mitigate.

    It is the arm in the settings, else the first value-injected arm, else the first arm with profiles.

    Raises:
        UserError: There is none, or no vanilla arm to compare it with.
    """
    chosen = study.mitigation.arm if study.mitigation else None
    aligned = [a for a in study.arms if has_profile(a)]
    if not aligned or "vanilla" not in study.arms:
        message = "mitigation needs vanilla and an arm with profiles"
        raise UserError(message, "arms", "for example [vanilla, vim]")
    return chosen or min(aligned, key=lambda a: (a not in VIM_STAGES, study.arms.index(a)))


def too_small(run: Run) -> str:
    """Return why a run cannot be split in halves, or an empty string."""
    settings = run.study.mitigation or Mitigation()
    if len(run.plan.profiles) < 2:
        return "one profile cannot be split in halves"
    for name in settings.benchmarks:
        if name in run.plan.prompts and select_half(run.plan.prompts[name].prompts, "b", run.study.seed):
            return ""
    return "no category has two prompts to split in halves"


def halves(names: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Split profile names in two random halves, each in the original order."""
    ordered = sorted(names, key=lambda n: rank(seed, f"half {n}"))
    first = set(ordered[::2])
    return [n for n in names if n in first], [n for n in names if n not in first]


def learn(run: Run, arm: str, benchmarks: list[str]) -> list[Learned]:
    """Find the value to set aside for every category, from the first half of prompts and profiles."""
    cells = study_cells(run, benchmarks)
    half, _ = halves([p.name for p in run.plan.profiles], run.study.seed)
    start = arm, run.study.strategies[0]
    confidence = run.study.analysis.confidence
    by_benchmark = {
        b: _profile_rows(cells, start, b, _first_metric(run.plan, b))
        for b in benchmarks
        if (start, b, _first_metric(run.plan, b)) in cells.values
    }
    scored = {name for rows in by_benchmark.values() for name in rows}
    names = [n for n in half if n in scored]  # but for those whose adapter diverged
    profiles = {p.name: p for p in run.plan.profiles}
    importances = np.array([profiles[n].importances for n in names], dtype=float).reshape(len(names), -1)
    targets = np.unique([profiles[n].target for n in names], return_inverse=True)[1]
    labels: list[tuple[str, str, int]] = []
    columns: list[np.ndarray] = []
    for benchmark, rows in by_benchmark.items():
        prompts = run.plan.prompts[benchmark].prompts
        first = {p.id for p in select_half(prompts, "a", run.study.seed)}
        ids, categories = cells.units[benchmark, _first_metric(run.plan, benchmark)]
        here = np.array([i in first for i in ids])
        missing = np.full(len(ids), np.nan)
        values = np.stack([rows.get(n, missing) for n in names]) if names else np.zeros((0, len(ids)))
        for category in sorted({str(c) for c in categories}):
            chosen = here & (categories == category)
            labels.append((benchmark, category, int(chosen.sum())))
            columns.append(_means(values[:, chosen]))
    learned = []
    for (benchmark, category, size), column in zip(labels, columns, strict=True):
        known = np.isfinite(column)
        related = associate(
            importances[known], column[known, None], targets[known], [benchmark], confidence, run.study.seed
        )
        plain = [_plain(column[known], importances[known, value]) for value in range(importances.shape[1])]
        r = np.where(np.isfinite(related.r[:, 0]), related.r[:, 0], plain)
        best = int(r.argmax()) if len(r) else 0
        count = int(known.sum())
        if not len(r) or r[best] <= 0:
            learned.append(Learned(benchmark, category, "", None, None, None, count, size))
            continue
        tested = float(related.p[best, 0])
        p = tested if np.isfinite(tested) else None
        learned.append(Learned(benchmark, category, VALUES[best], float(r[best]), p, None, count, size))
    return _adjusted(learned)


def _plain(harm: np.ndarray, importance: np.ndarray) -> float:
    """Return the rank correlation of a value with a harm, or -1 where there is none. It chooses the value
    where profiles are too few for a test."""
    r = spearman(importance.tolist(), harm.tolist(), 0.95)[0].value
    return -1.0 if r is None else r


def _first_metric(plan: Plan, benchmark: str) -> str:
    return FIRST_METRICS[plan.measure(benchmark)]


def _profile_rows(
    cells: Cells, made: tuple[str, str], benchmark: str, metric: str
) -> dict[str, np.ndarray]:
    """The values of each profile on the prompts of a benchmark, the mean over its seeds."""
    rows = cells.values[made, benchmark, metric]
    names = dict.fromkeys(name for name, _ in rows)
    return {n: _means(np.stack([v for (name, _), v in rows.items() if name == n]).T) for n in names}


def _adjusted(learned: list[Learned]) -> list[Learned]:
    """With p by Bonferroni over the ten values of which each is the best, and Benjamini-Hochberg over
    categories."""
    tested = [n for n, one in enumerate(learned) if one.p is not None and np.isfinite(one.p)]
    p_values = adjusted([min(1.0, len(VALUES) * (learned[n].p or 0.0)) for n in tested])
    results = list(learned)
    for n, p in zip(tested, p_values, strict=True):
        results[n] = replace(learned[n], p_adjusted=p)
    return results


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of the known values of each row, NaN if there are none. [rows, columns] -> [rows]"""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def second_half(run: Run, arm: str, learned: list[Learned]) -> Study:
    """Return the study of the second half: vanilla and the arm under four strategies.

    If there is no value to set aside, only the strategies input-only and safety are tried.
    """
    settings = run.study.mitigation or Mitigation()
    data: dict[str, Any] = run.study.model_dump(mode="json")
    _, names = halves([p.name for p in run.plan.profiles], run.study.seed)
    aside = settings.values or {h.category: [h.value] for h in learned if h.value}
    strategies = list(STRATEGIES)
    if aside:
        every = [v for values in aside.values() for v in values]
        aside = {**aside, "all": [max(sorted(set(every)), key=every.count)]}
    else:
        say("mitigation: no value increases with a harm on the first half; only the safety prompt is tried")
        strategies = ["input-only", "safety"]
    chosen: dict[str, dict[str, Any]] = {}
    for name in settings.benchmarks:
        prompts = run.plan.prompts[name].prompts if name in run.plan.prompts else []
        if select_half(prompts, "b", run.study.seed):
            chosen[name] = data["benchmarks"][name] | {"half": "b", "also": [], "human": None}
    longest = max(spec["max_tokens"] for spec in chosen.values())
    if settings.harmless:
        chosen[HARMLESS] = {"max_tokens": longest}
    folder = run.store.root.absolute()
    output = f"{run.store.location}/{FOLDER}"
    shared = str(run.scorers.answers_file.absolute())
    data |= {
        "name": f"{run.study.name[:60]}-mitigation", "output": output,
        "profiles": [{"file": str(folder / "profiles" / "profiles.csv"), "names": names}],
        "arms": ["vanilla", arm], "strategies": strategies, "benchmarks": chosen,
        "prompting": data["prompting"] | {"set_aside": aside},
        "mitigation": None, "answers": shared,
    }  # fmt: skip
    return parse_study(SpecText(yaml.safe_dump(data), "mitigation"))


def mitigate(run: Run) -> Run:
    """Learn on one half of a finished run, run the second half, and write the guard prompts.

    Returns:
        The run of the second half. The learned values and the guard prompts are in the findings of `run`.

    Raises:
        UserError: The run has no aligned arm or no benchmark with harmful requests, or is too small.
    """
    settings = run.study.mitigation or Mitigation()
    arm = aligned_arm(run.study)
    benchmarks: list[str] = [b for b in settings.benchmarks if b in run.study.benchmarks.chosen()]
    if not benchmarks:
        raise UserError(
            "none of the benchmarks to mitigate is in this study",
            "mitigation.benchmarks",
            f"expected one of: {', '.join(REQUEST_BENCHMARKS)}",
        )
    known = {p.category for b in benchmarks for p in run.plan.prompts[b].prompts}
    for category in settings.values or {}:
        if category not in known:
            todo = nearest(category, sorted(known))
            raise UserError(f"unknown category {category!r}", "mitigation.values", todo)
    if reason := too_small(run):
        raise UserError(reason, str(run.store.root), "use more prompts and profiles")
    run.workers.close()  # free memory for the workers of the second half
    learned = learn(run, arm, benchmarks)
    study = second_half(run, arm, learned)
    tried = Run(study, Store.open(str(study.output)), Plan(study), shared_base=run.loaded)
    check_scorers(tried)
    tried.store.claim(study.name)
    for task in adapter_tasks(tried).every:
        if run.store.done(task.artefact) and not tried.store.done(task.artefact):
            tried.store.adopt(run.store, task.artefact)
    say(f"mitigation: {len(tried.plan.profiles)} profiles, {len(study.strategies)} strategies")
    execute(tried, SECOND_HALF)
    table = pl.DataFrame([asdict(one) for one in learned])
    run.store.write_plain("findings/set_aside.csv", csv_bytes(table).decode())
    run.store.write_plain(
        "findings/guards.json", json.dumps(guards(tried, arm), indent=1, ensure_ascii=False)
    )
    return tried


def guards(tried: Run, arm: str) -> list[dict[str, Any]]:
    """Return for each category the strategy that lowered the aligned arm's harm most.

    Each row has the guard text, the change with interval and adjusted p, and whether it is significant.
    There is no text if no strategy lowered the harm.
    """
    study = tried.study
    rows = tried.store.read_table("findings/comparisons.csv", COMPARISONS_SCHEMA).filter(
        (pl.col("kind") == "strategies") & (pl.col("arm") == arm) & (pl.col("benchmark") != HARMLESS)
    )
    guard_rows = []
    for (benchmark, category), part in rows.group_by(["benchmark", "category"], maintain_order=True):
        first = _first_metric(tried.plan, str(benchmark))
        best = (
            part.filter((pl.col("metric") == first) & (pl.col("value") < 0))
            .sort("value")
            .head(1)
            .to_dicts()
        )
        guard: dict[str, Any] = {"benchmark": benchmark, "category": category, "metric": first}
        if best:
            row = best[0]
            values = study.prompting.set_aside_for(str(category))
            text = tried.plan.pack.strategy_text(row["strategy"], values)
            numbers = {
                k: row[k] for k in ("value_reference", "value_arm", "value", "low", "high", "p_adjusted")
            }
            held = row["p_adjusted"] is not None and row["p_adjusted"] <= study.analysis.fdr
            guard |= {"strategy": row["strategy"], "values": values, "text": text, **numbers, "holds": held}
        guard_rows.append(guard)
    return guard_rows


def make_mitigation(run: Run) -> None:
    """Run mitigation into mitigation/ if the study asks for it and is large enough."""
    if run.study.mitigation is None:
        return
    if reason := too_small(run):
        say(f"mitigation: not tried, {reason}")
    else:
        tried = mitigate(run)
        run.workers.failures += [f"{tried.study.name}: {name}" for name in tried.workers.failures]
