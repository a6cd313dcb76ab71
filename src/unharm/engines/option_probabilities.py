"""Compute the probability of given answers before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

import torch

from unharm.core.models.transfer import column, together
from unharm.engines.kv_cache import ForwardPass, KeyValueCache, prompt_pass
from unharm.engines.prompt_groups import PromptGroup, common_length

Forward = Callable[[ForwardPass, torch.Tensor, list[str], torch.Tensor | None], torch.Tensor]
"""Maps a pass, its tokens, the adapter of each row and the wanted tokens to logits [wanted, vocabulary]."""


def option_probabilities(
    prompts: list[PromptGroup],
    forward: Forward,
    device: torch.device,
    exact: bool | None = None,
) -> list[tuple[float, ...]]:
    """Return the probability of each answer as the beginning of the completion.

    The probability of an answer is the product over its tokens from where it leaves the prompt. Answers
    that share all tokens but the last, such as digits, are read from one row.

    Args:
        prompts: The prompts, with their answers.
        forward: The forward pass of the engine.
        device: Where to compute.
        exact: See `ForwardPass`; by default on a CPU alone.

    Returns:
        Per prompt, the probability of each of its answers.
    """
    rows: list[tuple[PromptGroup, list[int]]] = []
    wanted: list[tuple[int, int, int]] = []  # row, place, token
    terms: list[list[list[int]]] = []  # by prompt, by answer: numbers into `wanted`
    for prompt in prompts:
        paths = prompt.option_rows
        row_of = dict(zip(paths, range(len(rows), len(rows) + len(paths)), strict=True))
        rows += [(prompt, list(path)) for path in paths]
        of_prompt = []
        for ids in prompt.answers:
            path = tuple(ids[prompt.shared : -1])
            start = common_length(prompt.ids, ids)
            of_prompt.append(list(range(len(wanted), len(wanted) + len(ids) - start)))
            wanted += [(row_of[path], n - 1 - prompt.shared, ids[n]) for n in range(start, len(ids))]
        terms.append(of_prompt)
    prefixes = {id(u.prefix): u.prefix for u, _ in rows if u.prefix is not None}
    members = {p: [n for n, (u, _) in enumerate(rows) if id(u.prefix) == p] for p in prefixes}
    cache = KeyValueCache()
    cache.reserve(len(rows), max(len(path) for _, path in rows))
    groups = [(prefixes[p], column(m, device)) for p, m in members.items()]
    offsets = column([u.shared for u, _ in rows], device)
    forward_pass, tokens, _ = prompt_pass(cache, 0, [path for _, path in rows], offsets, groups, exact)
    starts = [0, *accumulate(len(path) for _, path in rows)]
    places, chosen = together(
        [[starts[row] + place for row, place, _ in wanted], [token for _, _, token in wanted]], device
    )
    logits = forward(forward_pass, tokens, [u.adapter for u, _ in rows], places)
    logs = torch.log_softmax(logits.float(), dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
    return [tuple(math.exp(sum(logs[n] for n in answer)) for answer in of_prompt) for of_prompt in terms]
