"""The size of a study in numbers, before anything runs."""

from __future__ import annotations

from typing import Any

from unharm.plan import Plan
from unharm.prompting.compose import preamble_of, put
from unharm.scoring.estimate import CHARACTERS_PER_TOKEN, services


def summary_of(plan: Plan) -> dict[str, Any]:
    """The size of the study in numbers; tokens of prompts are estimated from characters."""
    study = plan.study
    rows: list[dict[str, Any]] = []
    asked = services(plan)
    for name, spec in study.benchmarks.chosen().items():
        prompt_set = plan.prompts[name]
        aside = study.prompting.aside("all")
        before = sum(len(preamble_of(plan.pack, s, aside)) for s in plan.subjects)
        own = sum(len(put(plan.pack, p.text, prompt_set.kind.mode)) for p in prompt_set.prompts)
        characters = before * len(prompt_set.prompts) + own * len(plan.subjects)
        completions = len(plan.subjects) * len(prompt_set.prompts) * spec.samples
        rows.append(
            {
                "benchmark": name,
                "prompts": len(prompt_set.prompts),
                "categories": len({p.category for p in prompt_set.prompts}),
                "samples": spec.samples,
                "completions": completions,
                "prompt_tokens": round(characters / CHARACTERS_PER_TOKEN),
                "most_new_tokens": completions * spec.max_tokens,
                "scorer": ", ".join(spec.scorers),
                "judge_calls": sum(s["calls"] for s in asked if s["benchmark"] == name),
                "notes": prompt_set.notes,
            }
        )
    per_stage = {
        a.stage: sum(e.split == "train" for e in plan.examples(a))
        for a in {a.stage: a for a in plan.trained}.values()
    }
    return {
        "study": study.name,
        "base": study.base,
        "profiles": len(plan.profiles),
        "arms": study.arms,
        "strategies": study.strategies,
        "subjects": len(plan.subjects),
        "adapters": len(plan.trained),
        "training_examples": sum(per_stage[a.stage] for a in plan.trained),
        "benchmarks": rows,
        "completions": sum(r["completions"] for r in rows),
        "prompt_tokens": sum(r["prompt_tokens"] for r in rows),
        "most_new_tokens": sum(r["most_new_tokens"] for r in rows),
        "judge_calls": sum(r["judge_calls"] for r in rows),
        "services": asked,
        "notes": [
            *(f"{n}: {note}" for n, found in plan._benign.items() for note in found.notes),
            *(
                ["mitigation runs half of prompts and profiles again, under four strategies"]
                if study.mitigation
                else []
            ),
        ],
        "output": study.output_place,
    }
