"""The mitigation stage: learn on one half of the data which values to set aside, and test it on the other.

Prompts and profiles of a run are split in two halves by the study's seed. On the first half, its scores
show which value increases with the harm of each category. On the second half, which was not used before,
vanilla and the aligned arm run with all strategies, in a run folder inside the first one. Two of them are
controls: a value that does not go with the harm is set aside, and a neutral text is as long as the longest
guard. Refusals of harmless questions, coherence and length measure the cost of a strategy.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
import yaml

from unharm.analysis.comparisons import Cells
from unharm.analysis.measures import FIRST_METRICS
from unharm.analysis.schemas import COMPARISONS_SCHEMA
from unharm.analysis.set_aside import CategoryHarm, Learned, learn_values
from unharm.benchmarks.registry import HARMLESS, select_half
from unharm.core.arms import (
    CONTROLS,
    GUARDS,
    MATCHED_CONTROLS,
    NEUTRAL,
    STRATEGIES,
    VIM_STAGES,
    WRONG_VALUE,
    has_profile,
    is_trained,
    steering,
)
from unharm.core.errors import UserError, nearest
from unharm.core.files.yaml_text import SpecText
from unharm.core.progress import say
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run
from unharm.runs.execute import Stage, execute
from unharm.runs.halves import profile_halves
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
from unharm.study.doses import without_doses
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


def aligned_arm(study: Study) -> str:
    """Return the arm to mitigate.

    It is the arm in the settings, else the first value-injected arm, else the first arm with profiles.

    Raises:
        UserError: There is none, or no vanilla arm to compare it with.
    """
    chosen = study.mitigation.arm if study.mitigation else None
    aligned = [a for a in study.arms if has_profile(a) and not steering(a)]
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


def learn(run: Run, arm: str, benchmarks: list[str]) -> list[Learned]:
    """Find the value to set aside for every category, from the first half of prompts and profiles.

    Every category of the benchmarks has a row, also where no profile has a score.
    """
    cells = study_cells(run, benchmarks)
    half, _ = profile_halves([p.name for p in run.plan.profiles], run.study.seed)
    start = arm, run.study.strategies[0]
    by_benchmark = {
        b: _profile_rows(cells, start, b, _first_metric(run.plan, b))
        if (start, b, _first_metric(run.plan, b)) in cells.values
        else {}
        for b in benchmarks
    }
    scored = {name for rows in by_benchmark.values() for name in rows}
    names = [n for n in half if n in scored]  # but for those whose adapter diverged
    settings = run.study.mitigation or Mitigation()
    harms: list[CategoryHarm] = []
    for benchmark, rows in by_benchmark.items():
        prompts = run.plan.prompts[benchmark].prompts
        first = {p.id for p in select_half(prompts, "a", run.study.seed)}
        of_prompts = {p.id: p.category for p in prompts}
        ids, _ = cells.units.get((benchmark, _first_metric(run.plan, benchmark)), (list(of_prompts), None))
        categories = np.array([of_prompts[i] for i in ids])
        in_half = np.array([i in first for i in ids])
        missing = np.full(len(ids), np.nan)
        values = np.stack([rows.get(n, missing) for n in names]) if names else np.zeros((0, len(ids)))
        for category in sorted(set(of_prompts.values())):
            chosen = in_half & (categories == category)
            named = tuple((settings.values or {}).get(category, ()))
            means = _means(values[:, chosen])
            harms.append(CategoryHarm(benchmark, category, means, int(chosen.sum()), named))
    profiles = {p.name: p for p in run.plan.profiles}
    importances = np.array([profiles[n].importances for n in names], dtype=float).reshape(len(names), -1)
    targets = np.unique([profiles[n].target for n in names], return_inverse=True)[1]
    return learn_values(importances, targets, harms, run.study.analysis.confidence, run.study.seed)


def _first_metric(plan: Plan, benchmark: str) -> str:
    return FIRST_METRICS[plan.measure(benchmark)]


def _profile_rows(
    cells: Cells, made: tuple[str, str], benchmark: str, metric: str
) -> dict[str, np.ndarray]:
    """The values of each profile on the prompts of a benchmark, the mean over its seeds."""
    rows = cells.values[made, benchmark, metric]
    names = dict.fromkeys(name for name, _ in rows)
    return {n: _means(np.stack([v for (name, _), v in rows.items() if name == n]).T) for n in names}


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of the known values of each row, NaN if there are none. [rows, columns] -> [rows]"""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _most_frequent(by_category: dict[str, list[str]], taken: list[str]) -> str:
    """Return the most frequent value, if possible none of `taken`."""
    values = [v for several in by_category.values() for v in several]
    free = sorted(set(values) - set(taken)) or sorted(set(values))
    return max(free, key=values.count)


def second_half(run: Run, arm: str, learned: list[Learned]) -> Study:
    """Return the study of the second half: vanilla and the arm under the guards and their controls.

    If there is no value to set aside, only the safety prompt and the neutral text are tried.
    """
    settings = run.study.mitigation or Mitigation()
    data = without_doses(run.study.model_dump(mode="json"))
    _, names = profile_halves([p.name for p in run.plan.profiles], run.study.seed)
    aside = settings.values or {h.category: [h.value] for h in learned if h.value}
    control = {h.category: [h.control] for h in learned if h.control and h.category in aside}
    strategies = [s for s in STRATEGIES if settings.controls or s not in CONTROLS]
    if aside:
        aside = {**aside, "all": [_most_frequent(aside, [])]}
        if not control:
            strategies = [s for s in strategies if s != WRONG_VALUE]
    else:
        say("mitigation: no value increases with a harm on the first half; only the safety prompt is tried")
        strategies = [s for s in strategies if s in ("input-only", "safety", NEUTRAL)]
    if control:
        control = {**control, "all": [_most_frequent(control, aside["all"])]}
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
        "prompting": data["prompting"] | {"set_aside": aside, "set_aside_control": control},
        "mitigation": None, "mechanism": None, "answers": shared, "seeds": _seeds(run, arm, names),
        "samples": {a: n for a, n in run.study.samples.items() if a == "vanilla"},
    }  # fmt: skip
    return parse_study(SpecText(yaml.safe_dump(data), "mitigation"))


def _seeds(run: Run, arm: str, names: list[str]) -> dict[str, Any] | None:
    """Return the training seeds of some profiles as a study gives them; None if the arm is not trained."""
    seeds = run.study.seeds
    if seeds is None or not is_trained(arm):
        return None
    every = [p.name for p in run.plan.profiles]
    return seeds.of_subset(names, every).model_dump(mode="json")


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

    Each row has the guard text, the change with interval and adjusted p, whether it is significant, and
    under `control` the same for the difference from the guard's control. There is no text if no strategy
    lowered the harm.
    """
    study = tried.study
    rows = tried.store.read_table("findings/comparisons.csv", COMPARISONS_SCHEMA).filter(
        (pl.col("kind") == "strategies") & (pl.col("arm") == arm) & (pl.col("benchmark") != HARMLESS)
    )
    guard_rows = []
    for (benchmark, category), part in rows.group_by(["benchmark", "category"], maintain_order=True):
        first = _first_metric(tried.plan, str(benchmark))
        of_metric = part.filter(pl.col("metric") == first)
        lowered = (
            (pl.col("value") < 0)
            & (pl.col("reference_strategy") == study.strategies[0])
            & pl.col("strategy").is_in(GUARDS)
        )
        best = of_metric.filter(lowered).sort("value").head(1).to_dicts()
        guard: dict[str, Any] = {"benchmark": benchmark, "category": category, "metric": first}
        if best:
            row = best[0]
            values = study.prompting.set_aside_for(str(category))
            text = tried.plan.pack.strategy_text(row["strategy"], values)
            guard |= {"strategy": row["strategy"], "values": values, "text": text}
            guard |= _change(row, study.analysis.fdr)
            of_control = of_metric.filter(
                (pl.col("strategy") == row["strategy"])
                & (pl.col("reference_strategy") == MATCHED_CONTROLS[row["strategy"]])
            ).to_dicts()
            if of_control:
                name = MATCHED_CONTROLS[row["strategy"]]
                guard["control"] = {"strategy": name, **_change(of_control[0], study.analysis.fdr)}
        guard_rows.append(guard)
    return guard_rows


def _change(row: dict[str, Any], level: float) -> dict[str, Any]:
    """Return the numbers of a comparison for the list of guards."""
    fields = ("value_reference", "value_arm", "value", "low", "high", "p_adjusted")
    significant = row["p_adjusted"] is not None and row["p_adjusted"] <= level
    return {field: row[field] for field in fields} | {"holds": significant}


def make_mitigation(run: Run) -> None:
    """Run mitigation into mitigation/ if the study asks for it and is large enough."""
    if run.study.mitigation is None:
        return
    if reason := too_small(run):
        say(f"mitigation: not tried, {reason}")
    else:
        tried = mitigate(run)
        run.workers.failures += [f"{tried.study.name}: {name}" for name in tried.workers.failures]
