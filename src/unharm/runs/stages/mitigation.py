"""What lowers the harm: values to set aside are learned on one half, prompts are tried on the other.

Prompts and profiles of a run are split in two halves by the study's seed. On the first, the run's own
scores say which value goes up with the harm of each category. On the second, which has not been looked
at, vanilla and the aligned arm are run under all four strategies, in a run folder of its own inside the
first. Refusals of harmless questions, coherence and length say what a strategy costs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import yaml

from unharm.analysis.correlations import rank_correlations
from unharm.analysis.intervals import adjusted
from unharm.analysis.measures import FIRST_METRICS
from unharm.analysis.schemas import COMPARISONS_SCHEMA
from unharm.benchmarks.registry import BENCHMARKS, HARMLESS, half_of
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
from unharm.study.check import parse_study
from unharm.study.spec import REQUESTS, Mitigation, Study

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
    none goes up. `p_adjusted` is Benjamini-Hochberg's over all values and categories that were looked
    at."""

    benchmark: str
    category: str
    value: str
    r: float | None
    p: float | None
    p_adjusted: float | None
    profiles: int
    prompts: int


def aligned_arm(study: Study) -> str:
    """The arm that is mitigated: the one that the study names, else the first value-injected one, else the
    first with profiles. Raises `UserError` where there is none to compare with vanilla."""
    chosen = study.mitigation.arm if study.mitigation else None
    aligned = [a for a in study.arms if has_profile(a)]
    if not aligned or "vanilla" not in study.arms:
        what = "mitigation needs vanilla and an arm with profiles"
        raise UserError(what, "arms", "for example [vanilla, vim]")
    return chosen or min(aligned, key=lambda a: (a not in VIM_STAGES, study.arms.index(a)))


def too_small(run: Run) -> str:
    """Why a run cannot be cut in halves; empty where it can."""
    settings = run.study.mitigation or Mitigation()
    if len(run.plan.profiles) < 2:
        return "one profile cannot be cut in halves"
    for name in settings.benchmarks:
        if name in run.plan.prompts and half_of(run.plan.prompts[name].prompts, "b", run.study.seed):
            return ""
    return "there is no category with two prompts to cut in halves"


def halves(names: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Profiles drawn into two halves, each in its old order."""
    ordered = sorted(names, key=lambda n: rank(seed, f"half {n}"))
    first = set(ordered[::2])
    return [n for n in names if n in first], [n for n in names if n not in first]


def learn(run: Run, arm: str, benchmarks: list[str]) -> list[Learned]:
    """The value to set aside for every category, from the first half of prompts and profiles."""
    cells = study_cells(run, benchmarks)
    half, _ = halves([p.name for p in run.plan.profiles], run.study.seed)
    start = arm, run.study.strategies[0]
    made = {
        n
        for b in benchmarks
        for n in cells.values.get((start, b, FIRST_METRICS[BENCHMARKS[b].measure]), {})
    }
    names = [n for n in half if n in made]  # but for those whose adapter diverged
    importances = np.array([p.importances for p in run.plan.profiles if p.name in names], dtype=float)
    about, columns = [], []
    for benchmark in benchmarks:
        metric = FIRST_METRICS[BENCHMARKS[benchmark].measure]
        prompts = run.plan.prompts[benchmark].prompts
        first = {p.id for p in half_of(prompts, "a", run.study.seed)}
        ids, categories = cells.units[benchmark, metric]
        here = np.array([i in first for i in ids])
        rows = cells.values.get((start, benchmark, metric), {})
        values = np.stack([rows[n] for n in names]) if names else np.zeros((0, len(ids)))
        for category in sorted({str(c) for c in categories}):
            chosen = here & (categories == category)
            about.append((benchmark, category, int(chosen.sum())))
            columns.append(_means(values[:, chosen]))
    harms = np.stack(columns, axis=1)
    harms = np.where(np.isfinite(harms).all(axis=0), harms, 0.0)  # without all scores it does not vary
    found = rank_correlations(importances, harms, run.study.analysis.confidence)
    known = np.isfinite(found.p)
    p_adjusted = np.full(found.p.shape, np.nan)
    p_adjusted[known] = adjusted(found.p[known].tolist())
    learned = []
    for column, (benchmark, category, size) in enumerate(about):
        r = np.where(np.isfinite(found.r[:, column]), found.r[:, column], -1)
        best = int(r.argmax())
        if r[best] <= 0:
            learned.append(Learned(benchmark, category, "", None, None, None, len(names), size))
            continue
        at = best, column
        numbers = float(found.r[at]), float(found.p[at]), float(p_adjusted[at])
        learned.append(Learned(benchmark, category, VALUES[best], *numbers, len(names), size))
    return learned


def _means(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def second_half(run: Run, arm: str, learned: list[Learned]) -> Study:
    """The study of the second half: vanilla and the arm, four strategies, values set aside by category; or
    input-only and safety, where no value is known to set aside."""
    settings = run.study.mitigation or Mitigation()
    data: dict[str, Any] = run.study.model_dump(mode="json")
    _, names = halves([p.name for p in run.plan.profiles], run.study.seed)
    aside = settings.values or {h.category: [h.value] for h in learned if h.value}
    strategies = list(STRATEGIES)
    if aside:
        every = [v for values in aside.values() for v in values]
        aside = {**aside, "all": [max(sorted(set(every)), key=every.count)]}
    else:  # then there is only the safety prompt to try
        say(
            "mitigation: no value goes up with any harm on the first half: the safety prompt alone is tried"
        )
        strategies = ["input-only", "safety"]
    chosen: dict[str, dict[str, Any]] = {}
    for name in settings.benchmarks:
        prompts = run.plan.prompts[name].prompts if name in run.plan.prompts else []
        if half_of(prompts, "b", run.study.seed):
            chosen[name] = data["benchmarks"][name] | {"half": "b", "also": [], "human": None}
    longest = max(spec["max_tokens"] for spec in chosen.values())
    if settings.harmless:
        chosen[HARMLESS] = {"max_tokens": longest}
    folder = run.store.root.absolute()
    there = f"{run.store.location}/{FOLDER}"
    shared = str(run.scorers.answers_file.absolute())
    data |= {
        "name": f"{run.study.name[:60]}-mitigation", "output": there,
        "profiles": [{"file": str(folder / "profiles" / "profiles.csv"), "names": names}],
        "arms": ["vanilla", arm], "strategies": strategies, "benchmarks": chosen,
        "prompting": data["prompting"] | {"set_aside": aside},
        "mitigation": None, "answers": shared,
    }  # fmt: skip
    return parse_study(SpecText(yaml.safe_dump(data), "mitigation"))


def mitigate(run: Run) -> Run:
    """Learns on one half of a finished run and tries on the other; gives the run of the second half, and
    writes what was learned and the guard prompts into the folder of the first.

    Raises `UserError` where the run has no aligned arm, or no benchmark with harmful requests.
    """
    settings = run.study.mitigation or Mitigation()
    arm = aligned_arm(run.study)
    benchmarks: list[str] = [b for b in settings.benchmarks if b in run.study.benchmarks.chosen()]
    if not benchmarks:
        raise UserError(
            "none of the benchmarks to mitigate is in this study",
            "mitigation.benchmarks",
            f"expected one of: {', '.join(REQUESTS)}",
        )
    known = {p.category for b in benchmarks for p in run.plan.prompts[b].prompts}
    for category in settings.values or {}:
        if category not in known:
            todo = nearest(category, sorted(known))
            raise UserError(f"unknown category {category!r}", "mitigation.values", todo)
    if reason := too_small(run):
        raise UserError(reason, str(run.store.root), "use more prompts and profiles")
    run.workers.close()  # those of the second half need the room
    learned = learn(run, arm, benchmarks)
    study = second_half(run, arm, learned)
    tried = Run(study, Store.at(str(study.output)), Plan(study), models=run.models)
    check_scorers(tried)
    tried.store.root.mkdir(parents=True, exist_ok=True)
    for task in adapter_tasks(tried).every:
        if run.store.done(task.artefact) and not tried.store.done(task.artefact):
            tried.store.adopt(run.store, task.artefact)
    say(f"mitigation: {len(tried.plan.profiles)} profiles, {len(study.strategies)} strategies")
    execute(tried, SECOND_HALF)
    table = pl.DataFrame([asdict(one) for one in learned])
    run.store.write_plain("findings/set_aside.csv", table.write_csv())
    run.store.write_plain(
        "findings/guards.json", json.dumps(guards(tried, arm), indent=1, ensure_ascii=False)
    )
    return tried


def guards(tried: Run, arm: str) -> list[dict[str, Any]]:
    """For every category the strategy that lowered the aligned arm's harm most, ready to be used: its text,
    the change with interval and adjusted p, and whether it holds; no text where none lowered it."""
    study = tried.study
    path = tried.store.root / "findings" / "comparisons.csv"
    rows = pl.read_csv(path, schema=COMPARISONS_SCHEMA).filter(
        (pl.col("kind") == "strategies") & (pl.col("arm") == arm) & (pl.col("benchmark") != HARMLESS)
    )
    found = []
    for (benchmark, category), part in rows.group_by(["benchmark", "category"], maintain_order=True):
        first = FIRST_METRICS[BENCHMARKS[str(benchmark)].measure]
        best = (
            part.filter((pl.col("metric") == first) & (pl.col("value") < 0))
            .sort("value")
            .head(1)
            .to_dicts()
        )
        told: dict[str, Any] = {"benchmark": benchmark, "category": category, "metric": first}
        if best:
            row = best[0]
            values = study.prompting.aside(str(category))
            text = tried.plan.pack.strategy(row["strategy"], values)
            numbers = {
                k: row[k] for k in ("value_reference", "value_arm", "value", "low", "high", "p_adjusted")
            }
            held = row["p_adjusted"] is not None and row["p_adjusted"] <= study.analysis.fdr
            told |= {"strategy": row["strategy"], "values": values, "text": text, **numbers, "holds": held}
        found.append(told)
    return found


def make_mitigation(run: Run) -> None:
    """mitigation/: the second half of prompts and profiles under four strategies, where the study asks for
    it."""
    if run.study.mitigation is None:
        return
    if reason := too_small(run):
        say(f"mitigation: not tried, {reason}")
    else:
        tried = mitigate(run)
        run.workers.failures += [f"{tried.study.name}: {name}" for name in tried.workers.failures]
