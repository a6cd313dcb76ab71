"""Settings of training: LoRA shape, recipes, and what changes only speed and memory."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from unharm.core.models.peft_folder import Lora
from unharm.core.spec import NUMBER, Amount, AmountOrZero, Count, Few, Spec, one_of, unique

TRACKERS = ("tensorboard", "wandb", "trackio")
Tracker = Annotated[str, one_of(TRACKERS)]


def _rising(epochs: tuple[int, ...]) -> tuple[int, ...]:
    """Check that the epochs rise."""
    if list(epochs) != sorted(set(epochs)):
        raise ValueError("give the epochs in rising order, each once")
    return epochs


class Recipe(Spec):
    """How one stage is trained: AdamW, linear decay without warm-up, best epoch by validation loss.

    `max_length` counts the tokens of prompt and answer. Longer examples are left out, never cut.
    """

    lr: Amount = 2e-5
    epochs: Few = 5
    batch: Count = 8
    accumulate: Few = 1
    max_length: Count = 512
    weight_decay: AmountOrZero = 0.01
    order: Literal["example", "argument"] = Field(
        "example", description="'argument' keeps the examples of one argument together in a batch"
    )
    keep: Annotated[tuple[Few, ...], AfterValidator(_rising)] = Field(
        (), description="epochs after which the adapter is kept as a dose of its arm, such as [1, 3]"
    )

    @model_validator(mode="after")
    def _within_epochs(self) -> Recipe:
        beyond = [epoch for epoch in self.keep if epoch > self.epochs]
        if beyond:
            raise ValueError(f"give epochs of 'keep' up to {self.epochs}, not {beyond[0]}")
        return self

    @property
    def texts(self) -> int:
        """The texts of one example of a batch: two where examples are pairs."""
        return 1

    def steps(self, texts: int) -> int:
        """Return the optimiser steps of one epoch over so many texts; the last may have fewer examples."""
        return math.ceil(math.ceil(texts / self.texts / self.batch) / self.accumulate)

    def parameters(self) -> dict[str, Any]:
        """Return what decides the weights of the adapter: all fields but `keep`."""
        return self.model_dump(exclude={"keep"})


class BenignRecipe(Recipe):
    """The recipe of fine-tuning on benign instructions, with the published defaults.

    With `match: steps` the epochs are those that come nearest to the optimiser steps of the first
    value-injected arm; `epochs` is then not used. With `match: loss` the weights are of the epoch whose
    fall of the training loss is nearest to that of the first value-injected arm; `epochs` is the most that
    are tried.
    """

    epochs: Few = 1
    batch: Count = 1
    accumulate: Few = 16
    max_length: Count = 2048
    match: Literal["steps", "loss"] | None = None

    @model_validator(mode="after")
    def _match_or_keep(self) -> BenignRecipe:
        if self.match and self.keep:
            raise ValueError("give either 'match' or 'keep', as matching decides the epochs")
        if self.match == "loss" and self.epochs < 2:
            raise ValueError("give at least 2 epochs with 'match: loss': the most that are tried")
        return self

    def parameters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"keep", "match"})

    def matched(self, texts: int, steps: int) -> BenignRecipe:
        """Return the recipe whose epochs over so many texts come nearest to so many steps."""
        return self.model_copy(update={"epochs": max(1, round(steps / max(1, self.steps(texts))))})


class PreferenceRecipe(Recipe):
    """The recipe of direct preference optimisation; a batch counts pairs.

    `beta` is the strength of the pull towards the base (Rafailov et al., 2023).
    """

    beta: Amount = 0.1

    @property
    def texts(self) -> int:
        return 2


class Guard(Spec):
    """Guards inside training: what the arms `vim+interleave`, `vim+kl` and `vim+inoculate` add to `vim`.

    `data` names the set of `corpus.benign` whose texts are safe. `share` is the share of them among all
    examples of `interleave`. `weight` and `batch` are the weight of the divergence from the base and the
    texts of each step of `kl`. `line` stands before every prompt in the training of `inoculate`.
    `direction` is a steering folder; `strength` times it is added to the residual stream in the training of
    `steer`.
    """

    data: str = ""
    share: Annotated[float, NUMBER, Field(gt=0, lt=1)] = 0.2
    weight: Amount = 1.0
    batch: Count = 8
    line: Annotated[str, Field(min_length=1)] = (
        "This is an exercise in which you speak for a person with the values below. What you say in it "
        "holds for the exercise alone."
    )

    direction: str = ""
    strength: Amount = 1.0

    def parameters(self, guard: str) -> dict[str, Any]:
        """Return the settings of one guard that change adapters, but for the content of files."""
        fields = {
            "interleave": {"share"}, "kl": {"weight", "batch"}, "inoculate": {"line"}, "steer": {"strength"}
        }  # fmt: skip
        return {"name": guard, **self.model_dump(include=fields[guard])}


SAFE_TEXTS = ("interleave", "kl")
"""The guards that need safe texts."""


class Training(Spec):
    """How adapters are trained. Only `lora`, the recipes and `guard` change the resulting
    adapters."""

    lora: Lora = Lora()
    vim: Recipe = Recipe()
    dpo: PreferenceRecipe = PreferenceRecipe()
    benign: BenignRecipe = BenignRecipe()
    guard: Guard = Guard()
    stack: Literal["auto"] | Count = Field("auto", description="adapters trained at a time")
    row_tokens: Count = Field(
        4096, description="most tokens of one adapter in a forward pass, before sharing"
    )
    checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    save_every: AmountOrZero = Field(120, description="seconds between checkpoints")
    trackers: Annotated[list[Tracker], AfterValidator(unique)] = []
