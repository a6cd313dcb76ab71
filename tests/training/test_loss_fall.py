"""Tests of `unharm.training.loss_fall`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch

from support.stack_helpers import model_of
from support.stacks import job, trained
from unharm.core.models.peft_folder import Lora
from unharm.training.loss_fall import fall, fall_of, hardly_trained
from unharm.training.settings import Recipe


def curves(**losses: list[float]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, values in losses.items():
        arm, stage, profile = name.split("__")
        rows += [
            {
                "arm": arm.replace("_", "-"), "stage": stage, "profile": profile, "best_epoch": 1,
                "curve": "train", "steps": 3 * n, "loss": loss,
            }
            for n, loss in enumerate(values, start=1)
        ]  # fmt: skip
    return pl.DataFrame(rows)


def test_the_end_is_the_mean_of_the_last_epoch() -> None:
    falling = [2.0] * 10 + [1.0] * 5 + [0.5] * 5
    steps, share = fall_of(curves(vim__qa__p=falling))
    assert steps == 60
    assert share == pytest.approx(1 - 0.75 / 2)
    assert fall_of(curves(vim__qa__p=[4.0, 5.0, 3.0])) == (9, 0.25)


def test_arms_whose_loss_hardly_falls_are_named_with_what_to_do() -> None:
    flat, falling = [3.0, 3.0, 2.94], [3.0, 2.0, 1.0]
    rows = hardly_trained(
        curves(
            vim_ag__ag__p=falling, vim_ag__ag__q=flat, vim__qa__p=flat, vim__qa__q=flat, b__grammar__=flat
        )
    )
    assert [row.sentence for row in rows] == [
        "vim-ag, stage ag: hardly trained (1 of 2 adapters): 9 steps, loss −2 %; "
        "raise training.vim.lr or training.vim.epochs",
        "vim, stage qa: hardly trained: 9 steps, loss −2 %; raise training.vim.lr or training.vim.epochs",
        "b, stage grammar: hardly trained: 9 steps, loss −2 %; "
        "raise training.benign.lr or training.benign.epochs",
    ]
    assert hardly_trained(curves(vim__qa__p=falling)) == []


def test_a_rising_loss_is_hardly_trained_too() -> None:
    (row,) = hardly_trained(curves(vim__qa__p=[1.0, 1.5]))
    assert "loss +50 %" in row.sentence


def test_an_adapter_keeps_the_epoch_whose_fall_is_nearest_to_the_wanted_one() -> None:
    """Three adapters of one stack are asked for the falls of epochs 1, 4 and 9 of the same training."""
    model, lora = model_of("llama"), Lora(r=4, dropout=0.0, targets=["q_proj", "v_proj"])
    recipe, plain = Recipe(lr=1e-2, epochs=9, batch=8), job(1)
    _, before = trained(model, [plain], lora, recipe)
    per_epoch, points = recipe.steps(len(plain.train)), before.curves[0].train
    falls = [fall(points, per_epoch * epoch) for epoch in range(1, 10)]
    assert len({round(share, 5) for share in falls}) == 9  # so that one alone is nearest
    _, state = trained(
        model, [replace(plain, key=f"{e}", fall=falls[e - 1] + 1e-9) for e in (1, 4, 9)], lora, recipe
    )
    assert [curve.best_epoch for curve in state.curves] == [1, 4, 9]
    assert not torch.equal(state.best[0], state.best[1])
    assert torch.equal(state.best[2], state.weights[2])
