"""Tests of `unharm.training.loss_fall`."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from unharm.training.loss_fall import fall_of, hardly_trained


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
    steps, fall = fall_of(curves(vim__qa__p=falling))
    assert steps == 60
    assert fall == pytest.approx(1 - 0.75 / 2)
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
