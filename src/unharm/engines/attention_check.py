"""Compare the logits of the hf engine with those of the model itself, before anything is generated."""

from __future__ import annotations

from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.engines.option_probabilities import Forward
from unharm.engines.prompt_groups import PromptGroup
from unharm.engines.requests import Sampling, Task
from unharm.engines.rows import Rows

REMEDY = "serve it, for example with vLLM, and use the engine openai"


@torch.inference_mode()
def reference_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Return the logits [vocabulary] after a text, by the model's own attention."""
    tokens = torch.tensor([ids], device=model.device)
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits[0, -1]
    return logits.float()


@torch.inference_mode()
def check_attention(
    model: Any, ids: list[int], expected: torch.Tensor, forward: Forward, exact: bool | None = None
) -> None:
    """Read all tokens of a text but the last, then the last one, and compare the logits.

    Args:
        model: A model inside `using_cache`.
        ids: Token ids of the text.
        expected: Logits of `reference_logits` for the same text.
        forward: The forward pass of the engine.
        exact: See `ForwardPass`; by default on a CPU alone.

    Raises:
        UserError: The logits differ by more than rounding, or the model rejects what the engine passes to
            it.
    """
    rows = Rows(model.device, exact=exact)
    task = Task("check", (), Sampling(2, 0.0, 1.0))
    try:
        forward_pass, tokens, last = rows.add([PromptGroup(task, [], ids[:-1], 0, "")])
        forward(forward_pass, tokens, [""], last)
        rows.tokens = ids[-1:]
        forward_pass, tokens = rows.next_pass()
        logits = forward(
            forward_pass, tokens, rows.adapters(0, forward_pass.count), torch.zeros_like(last)
        )[0].float()
    except torch.OutOfMemoryError:
        raise
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"the hf engine cannot run {model.config.model_type} models: {error}", "base", REMEDY
        ) from None
    difference = float((logits - expected).abs().max() / expected.abs().max())
    if not difference < (1e-3 if model.dtype == torch.float32 else 5e-2):
        raise UserError(
            f"the hf engine cannot run {model.config.model_type} models: their logits differ by "
            f"{difference:.2g}",
            "base",
            REMEDY,
        )
