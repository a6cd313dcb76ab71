"""Tests of `unharm.engines.row_shifts`: steering per row in a mixed batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support.engine_helpers import GREEDY, TEXTS, never, requests
from support.steering import greedy_with_hook, steering_folders
from unharm.core.errors import UserError
from unharm.core.models.steering_folder import write_steering
from unharm.engines.hf import HfEngine
from unharm.engines.mixed_lora import load_adapter
from unharm.engines.requests import Task
from unharm.engines.row_shifts import RowShifts


def test_the_worked_example(parts: tuple[Any, Any]) -> None:
    model, _ = parts
    shift = torch.zeros(2, 2, 32)  # adapters x and y, layers, hidden
    shift[0, 0], shift[1, 0], shift[1, 1] = 1.0, 2.0, 3.0
    shifts = RowShifts(model)
    shifts.use({0: shift[0], 1: shift[1]}, 2)
    ids = torch.tensor([[5, 6, 7]])
    plain = model(ids, output_hidden_states=True).hidden_states
    try:
        shifts.assign(torch.tensor([1, -1, 0]))  # rows 0 to 2 use y, nothing, x
        steered = model(ids, output_hidden_states=True).hidden_states
        added = steered[1][0] - plain[1][0]
        torch.testing.assert_close(added[:, 0], torch.tensor([2.0, 0.0, 1.0]), rtol=0, atol=1e-5)
        shifts.assign(None)
        assert torch.equal(model(ids).logits, model(ids, output_hidden_states=True).logits)
    finally:
        shifts.use({}, 0)
    assert torch.equal(model(ids, output_hidden_states=True).hidden_states[1], plain[1])


def test_steering_in_a_mixed_batch_equals_a_forward_hook_on_plain_transformers(
    parts: tuple[Any, Any], adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Vanilla, a LoRA adapter and three shifts share the passes; greedy texts are equal token for token."""
    model, tokenizer = parts
    folders = steering_folders(model, tmp_path, 3)
    rows: dict[str, Path | None] = {"vanilla": None, "lora": adapters["plain"], **folders}
    texts = [*TEXTS, "The baker counted the loaves and", "After the rain"]
    tasks = [Task(n, tuple(requests(texts=texts, subject=n)), GREEDY, f) for n, f in rows.items()]
    engine = HfEngine(model, tokenizer, "base", 64)
    made = {(t.name, c.prompt_id): c.text for t, c in engine.complete(tasks, never)}
    expected = {
        (name, str(place)): greedy_with_hook(model, tokenizer, text, folder, GREEDY.max_tokens)
        for name, folder in {"vanilla": None, **folders}.items()
        for place, text in enumerate(texts)
    }
    assert {at: made[at] for at in expected} == expected
    steered = [expected["shift-0", str(n)] != expected["vanilla", str(n)] for n in range(len(texts))]
    assert sum(steered) >= len(texts) // 2  # the shifts are no trifle


def test_a_flat_shift_is_the_base_and_a_shift_of_another_size_is_refused(
    parts: tuple[Any, Any], tmp_path: Path
) -> None:
    model, tokenizer = parts
    for name, shift in {"flat": torch.zeros(2, 32), "wide": torch.ones(2, 64)}.items():
        (tmp_path / name).mkdir()
        write_steering(tmp_path / name, shift, {}, "")
    engine = HfEngine(model, tokenizer, "base", 8)
    tasks = [
        Task(name, tuple(requests(subject=name)), GREEDY, folder)
        for name, folder in {"vanilla": None, "flat": tmp_path / "flat"}.items()
    ]
    made = {(t.name, c.prompt_id): c.text for t, c in engine.complete(tasks, never)}
    assert all(made["flat", p] == text for (name, p), text in made.items() if name == "vanilla")
    with pytest.raises(UserError, match=r"2 layers × 64 in it, 2 × 32 in the base"):
        load_adapter(tmp_path / "wide", model)


def test_a_damaged_shift_is_one_message(parts: tuple[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "steering.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="does not hold the tensor 'direction'"):
        load_adapter(tmp_path, parts[0])
