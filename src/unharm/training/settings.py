"""Settings of training: LoRA shape, recipes, and what changes only speed and memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from unharm.core.models.peft_folder import Lora
from unharm.core.spec import Positive, Spec, one_of, unique

TRACKERS = ("tensorboard", "wandb", "trackio")
Tracker = Annotated[str, one_of(TRACKERS)]


class Recipe(Spec):
    """How one stage is trained: AdamW, linear decay without warm-up, best epoch by validation loss.

    `max_length` counts the tokens of prompt and answer. Longer examples are left out, never cut.
    """

    lr: Annotated[float, Field(gt=0)] = 2e-5
    epochs: Positive = 5
    batch: Positive = 8
    accumulate: Positive = 1
    max_length: Positive = 512
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    order: Literal["example", "argument"] = Field(
        "example", description="'argument' keeps the examples of one argument together in a batch"
    )


class BenignRecipe(Recipe):
    """The recipe of fine-tuning on benign instructions, with the published defaults."""

    epochs: Positive = 1
    batch: Positive = 1
    accumulate: Positive = 16
    max_length: Positive = 2048


class Training(Spec):
    """How adapters are trained. Only `lora`, `vim` and `benign` change the resulting adapters."""

    lora: Lora = Lora()
    vim: Recipe = Recipe()
    benign: BenignRecipe = BenignRecipe()
    stack: Literal["auto"] | Positive = Field("auto", description="adapters trained at a time")
    row_tokens: Positive = Field(
        4096, description="most tokens of one adapter in a forward pass, before sharing"
    )
    checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    save_every: Annotated[float, Field(ge=0)] = Field(120, description="seconds between checkpoints")
    trackers: Annotated[list[Tracker], AfterValidator(unique)] = []
