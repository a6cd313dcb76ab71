"""A training of a base that was interrupted goes on, and ends with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from unharm.study.demo import base
from unharm.study.demo.world import documents

SHAPE = base.Shape(hidden=32, layers=1, heads=2, vocabulary=400, context=64, window=32, batch=4, steps=12)


def train(out: Path, stop_at: int | None = None) -> list[int]:
    """Train, perhaps until an interrupt; return the steps that were made."""
    steps: list[int] = []

    def on_step(step: int, *_: object) -> None:
        steps.append(step)
        if step == stop_at:
            raise KeyboardInterrupt

    base.train_base(documents(3)[:80], out, SHAPE, seed=1, on_step=on_step)
    return steps


def test_an_interrupted_training_goes_on_to_the_same_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SAVE_EVERY", 0.0)
    assert train(tmp_path / "whole") == list(range(1, 13))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop_at=7)
    assert not (tmp_path / "stopped").exists()
    assert train(tmp_path / "stopped") == list(range(8, 13))
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stopped", "whole"]


def test_a_checkpoint_that_cannot_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "base", stop_at=3)
    (unfinished,) = tmp_path.iterdir()
    unfinished.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert train(tmp_path / "base") == list(range(1, 13))
