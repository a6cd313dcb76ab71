"""The size of a study in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from unharm.core.arms import steering
from unharm.prompting.compose import apply_mode, build_preamble
from unharm.runs.base import chat_template_unused
from unharm.runs.plan import Plan
from unharm.runs.planning.services import CHARACTERS_PER_TOKEN, ServiceUse, services
from unharm.scoring.retirements import alias_note, end_note
from unharm.scoring.settings import GuardSpec
from unharm.study.spec import Study

FEW_STEPS = 100
"""A plan says so if an adapter makes fewer optimiser steps."""


@dataclass(frozen=True)
class BenchmarkSize:
    """The size of one benchmark in a study.

    `prompt_tokens` is estimated from characters. `most_new_tokens` is the limit for all completions.
    """

    benchmark: str
    prompts: int
    categories: int
    samples: int
    completions: int
    prompt_tokens: int
    most_new_tokens: int
    scorer: str
    judge_calls: int
    notes: list[str]


@dataclass(frozen=True)
class PlanSummary:
    """The size of a study. Sums are over all benchmarks."""

    study: str
    base: str
    profiles: int
    arms: list[str]
    strategies: list[str]
    subjects: int
    adapters: int
    training_examples: int
    seeds: list[int]
    seeded_profiles: int
    benchmarks: list[BenchmarkSize]
    completions: int
    prompt_tokens: int
    most_new_tokens: int
    judge_calls: int
    services: list[ServiceUse]
    notes: list[str]
    output: str


def summary_of(plan: Plan) -> PlanSummary:
    """Return the size of a study."""
    study = plan.study
    service_uses = services(plan)
    sizes = [_size(plan, name, service_uses) for name in study.benchmarks.chosen()]
    per_stage = {
        a.stage: sum(e.split == "train" for e in plan.examples(a))
        for a in {a.stage: a for a in plan.trained}.values()
    }
    notes = [f"{name}: {note}" for name, note in plan.benign_notes]
    if study.mitigation:
        number = "six" if study.mitigation.controls else "four"
        notes.append(f"mitigation runs half of prompts and profiles again, under {number} strategies")
    if chat_template_unused(study):
        notes.append("the base is a chat model, and its template is not used: see prompting.format")
    notes += _steering_notes(plan)
    notes += _engine_notes(study)
    notes += _scorer_notes(plan, service_uses)
    notes += _sample_notes(plan)
    notes += _seed_notes(plan)
    notes += _step_notes(plan, per_stage)
    return PlanSummary(
        study=study.name,
        base=study.base,
        profiles=len(plan.profiles),
        arms=study.arms,
        strategies=study.strategies,
        subjects=len(plan.subjects),
        adapters=len(plan.trained),
        training_examples=sum(per_stage[a.stage] for a in plan.trained),
        seeds=list(study.seeds.values) if study.seeds else [],
        seeded_profiles=len({s.profile for s in plan.subjects if s.profile and s.seed in _further(plan)}),
        benchmarks=sizes,
        completions=sum(s.completions for s in sizes),
        prompt_tokens=sum(s.prompt_tokens for s in sizes),
        most_new_tokens=sum(s.most_new_tokens for s in sizes),
        judge_calls=sum(s.judge_calls for s in sizes),
        services=service_uses,
        notes=notes,
        output=study.output_location,
    )


def _steering_notes(plan: Plan) -> list[str]:
    """Return what choosing layer and strength of the steer arms reads beside the completions."""
    variants = [steering(arm) for arm in plan.study.arms if steering(arm)]
    if not variants:
        return []
    settings = plan.study.steering
    layers = 3 if settings.layers == "auto" else len(settings.layers)
    profiles = min(settings.profiles, len({p.target for p in plan.profiles}))
    models = len(variants) * layers * len(settings.strengths) * profiles
    texts = settings.statements + settings.texts
    return [
        f"steering tries {models:,} shifts on at most {texts:,} texts each to choose layer and strength"
    ]


def _engine_notes(study: Study) -> list[str]:
    """Return which engine completes which benchmarks, where the study leaves that open."""
    if study.engine.name != "auto":
        return []
    engines: dict[str, list[str]] = {}
    for name, spec in study.benchmarks.chosen().items():
        engines.setdefault(study.engine.of(spec.samples), []).append(name)
    used = "; ".join(f"{engine} for {', '.join(names)}" for engine, names in engines.items())
    return [
        f"engine.name is auto: {used} (several samples share work in hf; single ones go to vllm if usable)"
    ]


def _scorer_notes(plan: Plan, uses: list[ServiceUse]) -> list[str]:
    """Return which services end, and which arms a map was not tested on."""
    notes = []
    for name in plan.study.used_scorers:
        hours = [use.hours for use in uses if use.scorer == name]
        known = [h for h in hours if h is not None]
        spec = plan.study.scorers.get(name)
        notes += [end_note(name, spec, sum(known) if known else None), alias_note(name, spec)]
        if isinstance(spec, GuardSpec) and spec.unmapped:
            names = ", ".join(spec.unmapped)
            notes.append(
                f"{name}: no category of {spec.categories} stands for {names}: labels say 'unmapped'"
            )
    return [note for note in [*notes, *plan.map_notes()] if note]


def _sample_notes(plan: Plan) -> list[str]:
    """Say which arms are sampled more often than the benchmarks say."""
    notes = []
    for name, spec in plan.study.benchmarks.chosen().items():
        often: dict[int, list[str]] = {}
        for arm in plan.study.arms:
            if (samples := plan.samples(arm, name)) > spec.samples:
                often.setdefault(samples, []).append(arm)
        notes += [
            f"{name}: {', '.join(arms)} sampled {samples} times per prompt, as there are no profiles to "
            "average over"
            for samples, arms in often.items()
        ]
    return notes


def _further(plan: Plan) -> list[int]:
    """Return the training seeds after the first."""
    return plan.study.seeds.values[1:] if plan.study.seeds else []


def _seed_notes(plan: Plan) -> list[str]:
    """Say what further training seeds cost, or what a study without them cannot show."""
    if not plan.trained:
        return []
    further = _further(plan)
    if not further:
        return [
            "one training seed: how far another would move all adapters of an arm stays unknown; "
            "give for example seeds: [1, 2, 3]"
        ]
    adapters = sum(a.seed in further for a in plan.trained)
    subjects = sum(s.seed in further for s in plan.subjects)
    few = "; intervals with two seeds are very wide" if len(further) == 1 else ""
    return [
        f"of {len(plan.trained):,} adapters {adapters:,}, and of {len(plan.subjects):,} subjects "
        f"{subjects:,} are for the seeds after the first{few}"
    ]


def _step_notes(plan: Plan, examples: dict[str, int]) -> list[str]:
    """Return the number of optimiser steps of each training stage, one note per stage."""
    notes = []
    for stage, adapter in {a.stage: a for a in plan.trained}.items():
        recipe = plan.recipe(adapter)
        steps = recipe.epochs * recipe.steps(examples[stage])
        few = f"; fewer than {FEW_STEPS} rarely align a real model" if steps < FEW_STEPS else ""
        most = "at most " if plan.matches_loss(adapter) else ""
        notes.append(f"stage {stage}: {most}{steps:,} optimiser steps per adapter at lr {recipe.lr:g}{few}")
    return notes + plan.unequal_steps


def _size(plan: Plan, name: str, service_uses: list[ServiceUse]) -> BenchmarkSize:
    """Return the size of one benchmark."""
    spec, prompt_set = plan.study.benchmarks.chosen()[name], plan.prompts[name]
    aside = {s: plan.study.prompting.set_aside_for("all", s) for s in plan.study.strategies}
    preambles = sum(len(build_preamble(plan.pack, s, aside[s.strategy])) for s in plan.subjects)
    texts = sum(len(apply_mode(plan.pack, p.text, prompt_set.benchmark.mode)) for p in prompt_set.prompts)
    characters = preambles * len(prompt_set.prompts) + texts * len(plan.subjects)
    completions = plan.completions(name)
    return BenchmarkSize(
        benchmark=name,
        prompts=len(prompt_set.prompts),
        categories=len({p.category for p in prompt_set.prompts}),
        samples=spec.samples,
        completions=completions,
        prompt_tokens=round(characters / CHARACTERS_PER_TOKEN),
        most_new_tokens=completions * spec.max_tokens,
        scorer=", ".join(spec.scorers),
        judge_calls=sum(s.calls for s in service_uses if s.benchmark == name),
        notes=prompt_set.notes,
    )
