"""Tests of `unharm.benchmarks.beavertails`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unharm.benchmarks.registry import load_prompts
from unharm.core.errors import UserError


def test_beavertails_as_the_original_json(tmp_path: Path) -> None:
    rows = [
        {"prompt": "How do I bake?", "category": "drugs", "category_id": "3"},
        {"prompt": "[withheld]", "category": "other", "category_id": "4"},
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    found = load_prompts("beavertails", tmp_path / "test.json", None, 0)
    assert [(p.id, p.text, p.category) for p in found.prompts] == [
        ("beavertails-0", "How do I bake?", "drugs")
    ]
    assert found.notes == ["1 prompts of other are withheld in this copy"]
    (tmp_path / "test.json").write_text(json.dumps([*rows, {"prompt": 3, "category": "x"}, "no"]))
    with pytest.raises(UserError) as error:
        load_prompts("beavertails", tmp_path / "test.json", None, 0)
    assert "item 3: BeaverTails-Evaluation: no text in prompt" in str(error.value)
    assert "item 4: BeaverTails-Evaluation: expected an object" in str(error.value)
