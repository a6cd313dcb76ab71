"""Compare the hf engine with the model itself, before anything is generated.

Two texts of different lengths are read together and continued for some tokens, as the engine continues
rows. At every step of the model's own greedy text the logits must be those of its own attention, so both
write the same text but for near ties. A layer that mixes tokens on its own (a convolution, a recurrence)
fails: rows meet in it, and from the second token on its state is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.core.models.agreement import relative_difference, systematic_difference, tolerance
from unharm.engines.option_probabilities import Forward
from unharm.engines.prompt_groups import PromptGroup
from unharm.engines.requests import Sampling, Task
from unharm.engines.rows import Rows

REMEDY = "serve it, for example with vLLM, and use the engine openai"
STEPS = 4
"""Tokens that are compared after each text."""


@dataclass(frozen=True)
class Reference:
    """What the model itself says after two texts.

    Attributes:
        texts: Token ids of each text.
        tokens: The greedy tokens after each text [texts, steps].
        logits: The logits that they were drawn from [texts, steps, vocabulary].
        tolerance: Relative difference of logits that counts as rounding.
    """

    texts: list[list[int]]
    tokens: list[list[int]]
    logits: torch.Tensor
    tolerance: float


@torch.inference_mode()
def reference_logits(model: Any, ids: list[int]) -> Reference:
    """Continue a text and its first half greedily by the model's own attention, without a cache."""
    texts = [ids, ids[: max(1, len(ids) // 2)]]
    tokens: list[list[int]] = []
    logits: list[torch.Tensor] = []
    for text in texts:
        drawn: list[int] = []
        for _ in range(STEPS):
            inputs = torch.tensor([text + drawn], device=model.device)
            logits.append(model(input_ids=inputs, use_cache=False).logits[0, -1].float())
            drawn.append(int(logits[-1].argmax()))
        tokens.append(drawn)
    by_text = torch.stack(logits).view(len(texts), STEPS, -1)
    return Reference(texts, tokens, by_text, tolerance(model, texts[0] + tokens[0]))


@torch.inference_mode()
def check_attention(model: Any, expected: Reference, forward: Forward, exact: bool | None = None) -> None:
    """Continue the texts of a reference together, and compare the logits.

    Args:
        model: A model inside `using_cache`.
        expected: What `reference_logits` returned.
        forward: The forward pass of the engine.
        exact: See `ForwardPass`; by default on a CPU alone.

    Raises:
        UserError: The logits differ by more than rounding, or the model rejects what the engine passes to
            it.
    """
    try:
        logits = _continued(model, expected, forward, exact)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"the hf engine cannot run {model.config.model_type} models: {error}", "base", REMEDY
        ) from None
    if problem := _difference(model, logits, expected):
        raise UserError(
            f"the hf engine cannot run {model.config.model_type} models: {problem}", "base", REMEDY
        )


def _continued(model: Any, expected: Reference, forward: Forward, exact: bool | None) -> torch.Tensor:
    """Return the logits [texts, steps, vocabulary] of the engine along the greedy tokens of a reference."""
    rows = Rows(model.device, exact=exact)
    task = Task("check", (), Sampling(STEPS + 1, 0.0, 1.0))
    forward_pass, tokens, last = rows.add([PromptGroup(task, [], text, 0, "") for text in expected.texts])
    count = len(expected.texts)
    steps = [forward(forward_pass, tokens, rows.adapters(0, count), last)[:count].float()]
    for step in range(STEPS - 1):
        rows.tokens = [drawn[step] for drawn in expected.tokens]
        forward_pass, tokens = rows.next_pass()
        steps.append(
            forward(forward_pass, tokens, rows.adapters(0, forward_pass.count), None)[:count].float()
        )
        rows.mark_written()
    return torch.stack(steps, dim=1)


def _difference(model: Any, logits: torch.Tensor, expected: Reference) -> str:
    """Return how the engine's logits differ from those of the model; empty if by rounding alone."""
    places = [
        (relative_difference(ours, own), step + 1, number + 1)
        for number, pair in enumerate(zip(logits, expected.logits, strict=True))
        for step, (ours, own) in enumerate(zip(*pair, strict=True))
    ]
    difference = systematic_difference(model, [place[0] for place in places])
    if difference < expected.tolerance:
        return ""
    first = next((p for p in places if not p[0] < expected.tolerance), places[0])
    return f"their logits differ by {difference:.2g}, first at token {first[1]} of text {first[2]}"
