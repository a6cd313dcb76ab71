"""What a study needs of an engine that is told when it starts: context, rank and target modules."""

from __future__ import annotations

import json

from unharm.core.arms import external_adapter, has_adapter
from unharm.core.models.peft_folder import ALL_LINEAR, configuration, find_adapter
from unharm.runs import keys
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run

ROOMY = 8192
"""A context up to this many tokens is taken as it is: it costs little memory."""
LONGEST = 8
"""Prompts of a benchmark, longest first, whose tokens are counted."""


def longest_request(run: Run) -> int | None:
    """Return a context that fits every request, twice over; None if the base's own is small anyway.

    vLLM makes room for one row of the whole context, 128,000 tokens for many bases. The longest prompts by
    bytes stand for all: no other can have twice their tokens.
    """
    config = json.loads((run.base.path / "config.json").read_text(encoding="utf-8"))
    declared = (config.get("text_config") or config).get("max_position_embeddings")
    if not isinstance(declared, int) or declared <= ROOMY:
        return None
    study, longest = run.study, 0
    for subject in run.plan.subjects:
        chat = run.loaded.tokenizer if study.prompt_style(subject.arm) == "chat" else None
        for benchmark, settings in study.benchmarks.chosen().items():
            prompts = sorted(run.plan.prompts[benchmark].prompts, key=lambda p: -len(p.text.encode()))
            for prompt in prompts[:LONGEST]:
                text = keys.composer(run.plan, subject, benchmark, chat, prompt.category).text(prompt.text)
                tokens = len(run.loaded.tokenizer(text)["input_ids"])
                longest = max(longest, tokens + settings.max_tokens)
    return min(declared, max(ROOMY, 2 * longest))


def adapter_shape(run: Run) -> tuple[int, frozenset[str]]:
    """Return the largest rank of the study's adapters, and the modules that they change.

    The modules are empty if an adapter names them by a pattern.
    """
    study = run.study
    configurations = [configuration(find_adapter(name, source)) for name, source in study.adapters.items()]
    ranks = [int(c.get("r", 8)) for c in configurations]
    targets = [c.get("target_modules") for c in configurations]
    if any(has_adapter(arm) and not external_adapter(arm) for arm in study.arms):
        ranks.append(study.training.lora.r)
        targets.append(_trained_targets(run))
    names: set[str] = set()
    for target in targets:
        if not isinstance(target, list | tuple):
            return max(ranks, default=1), frozenset()
        names |= {str(name).rpartition(".")[2] for name in target}
    return max(ranks, default=1), frozenset(names)


def _trained_targets(run: Run) -> list[str] | None:
    """Return the target modules of the adapters that the study trains; None where they are not known.

    A trained adapter names the modules that a preset stands for.
    """
    for task in adapter_tasks(run).trained:
        if run.store.done(task.artefact):
            names = configuration(run.store.locate(task.artefact)).get("target_modules")
            return [str(name) for name in names] if isinstance(names, list) else None
    targets = list(run.study.training.lora.targets)
    return None if targets == [ALL_LINEAR] else targets
