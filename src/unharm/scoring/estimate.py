"""What services would be asked in a study, before anything runs: calls, tokens, money, time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unharm.scoring.rubric import load_rubric
from unharm.scoring.settings import JudgeSpec, ServiceSpec
from unharm.scoring.texts import Text

if TYPE_CHECKING:
    from unharm.plan import Plan

CHARACTERS_PER_TOKEN = 4.0
"""For estimates without a tokenizer."""
VERDICT_TOKENS = 60
"""What a verdict with its reason has, about."""


def services(plan: Plan) -> list[dict[str, Any]]:
    """One row per benchmark and service: calls (one per completion; repeated texts make them fewer),
    tokens, cost (None where no price is given) and hours at its rate (None where it has none)."""
    rows = []
    for benchmark, bench in plan.study.benchmarks.chosen().items():
        for name in bench.scorers:
            spec = plan.study.scorers.get(name)
            if not isinstance(spec, ServiceSpec):
                continue
            prompts = plan.prompts[benchmark].prompts
            completions = len(plan.subjects) * len(prompts) * bench.samples
            calls = round(completions * plan.share(benchmark, name))
            row: dict[str, Any] = {
                "benchmark": benchmark, "scorer": name, "calls": calls, "sent_tokens": 0,
                "received_tokens": 0, "cost": None, "hours": None,
            }  # fmt: skip
            if isinstance(spec, JudgeSpec):
                rubric = load_rubric(spec.rubric)
                around = rubric.messages(Text("", "", "", ""), structured=True)
                rubric_length = sum(len(m["content"]) for m in around)
                own = rubric_length + sum(len(p.text) for p in prompts) / len(prompts)
                row["sent_tokens"] = round(calls * (own / CHARACTERS_PER_TOKEN + bench.max_tokens))
                row["received_tokens"] = calls * min(VERDICT_TOKENS, spec.max_tokens)
                if spec.price:
                    sent = row["sent_tokens"] * spec.price.input
                    row["cost"] = round((sent + row["received_tokens"] * spec.price.output) / 1e6, 4)
            if spec.rate:
                row["hours"] = round(calls / spec.rate / 3600, 2)
            rows.append(row)
    return rows
