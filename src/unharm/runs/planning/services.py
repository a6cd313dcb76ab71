"""Estimated calls, tokens, cost and time of the services in a study."""

from __future__ import annotations

from dataclasses import dataclass

from unharm.runs.plan import Plan
from unharm.scoring.rubric import load_rubric
from unharm.scoring.settings import GuardSpec, JudgeSpec, asks_service
from unharm.scoring.texts import Text

CHARACTERS_PER_TOKEN = 4.0
"""An estimate where there is no tokenizer."""
VERDICT_TOKENS = 60
"""Typical length of a verdict with its reason."""
THOUGHT_TOKENS = 600
"""Typical length of the reasoning before a verdict."""


@dataclass(frozen=True)
class ServiceUse:
    """Estimated use of one service for one benchmark.

    Attributes:
        benchmark: The benchmark.
        scorer: The scorer that asks the service.
        calls: One per completion. Repeated texts need fewer.
        sent_tokens: Tokens in requests.
        received_tokens: Tokens in answers.
        cost: None without a price.
        hours: Duration at the rate limit; None without one.
    """

    benchmark: str
    scorer: str
    calls: int
    sent_tokens: int = 0
    received_tokens: int = 0
    cost: float | None = None
    hours: float | None = None


def services(plan: Plan) -> list[ServiceUse]:
    """Return one row per benchmark and service."""
    rows = []
    for benchmark, bench in plan.study.benchmarks.chosen().items():
        for name in bench.scorers:
            spec = plan.study.scorers.get(name)
            if not asks_service(spec):
                continue
            prompts = plan.prompts[benchmark].prompts
            completions = plan.completions(benchmark)
            calls = round(completions * plan.share(benchmark, name))
            sent, received, cost = 0, 0, None
            if isinstance(spec, JudgeSpec):
                rubric = load_rubric(spec.rubric)
                empty_messages = rubric.messages(Text("", "", "", ""), structured=True)
                rubric_length = sum(len(m["content"]) for m in empty_messages)
                prompt_length = rubric_length + sum(len(p.text) for p in prompts) / len(prompts)
                sent = round(calls * (prompt_length / CHARACTERS_PER_TOKEN + bench.max_tokens))
                received = calls * min(VERDICT_TOKENS, spec.max_tokens)
                received += calls * min(THOUGHT_TOKENS, spec.thinking_tokens)
                if spec.price:
                    cost = round((sent * spec.price.input + received * spec.price.output) / 1e6, 4)
            rate = getattr(spec, "rate", None)
            if isinstance(spec, GuardSpec):
                calls *= len(spec.criteria or spec.rules.criteria or (None,))
            hours = round(calls / rate / 3600, 2) if rate else None
            rows.append(ServiceUse(benchmark, name, calls, sent, received, cost, hours))
    return rows
