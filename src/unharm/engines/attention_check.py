"""Whether a base attends as the hf engine does: before anything is generated, its logits are compared."""

from __future__ import annotations

from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.engines.option_probabilities import Forward
from unharm.engines.requests import Sampling, Task
from unharm.engines.rows import PromptGroup, Rows

REMEDY = "serve it, for example with vLLM, and use the engine openai"


@torch.inference_mode()
def reference_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """The logits [vocabulary] after a text, by the model's own attention."""
    tokens = torch.tensor([ids], device=model.device)
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits[0, -1]
    return logits.float()


@torch.inference_mode()
def check_attention(model: Any, ids: list[int], wanted: torch.Tensor, forward: Forward) -> None:
    """Reads all of a text but its last token, then that one, and compares with `wanted`.

    Raises `UserError` where the logits differ by more than rounding, or the model does not take what
    the engine gives it.
    """
    rows = Rows(model.device)
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
    difference = float((logits - wanted).abs().max() / wanted.abs().max())
    if not difference < (1e-3 if model.dtype == torch.float32 else 5e-2):
        raise UserError(
            f"the hf engine cannot run {model.config.model_type} models: their logits differ by "
            f"{difference:.2g}",
            "base",
            REMEDY,
        )
