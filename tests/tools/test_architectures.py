"""The table of architectures: what `tools/architectures.py` finds, and what docs/architectures.md says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("architectures", ROOT / "tools" / "architectures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architectures"] = module
    spec.loader.exec_module(module)
    return module


def rows() -> dict[str, list[str]]:
    lines = (ROOT / "docs" / "architectures.md").read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells[1:]}


def test_the_page_has_every_architecture_and_nothing_wrong(tool: Any) -> None:
    assert list(rows()) == list(tool.ARCHITECTURES)
    words = {word for row in rows().values() for word in row[:2]}
    assert words == {"works", "refused"}


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3", "lfm2", "nemotron"])
def test_the_tool_finds_what_the_page_says(tool: Any, name: str) -> None:
    verdict = tool.examine(name, "float32")
    assert verdict.word == rows()[name][0]
    assert verdict.detail.partition(": ")[2] in rows()[name][2]


def test_other_texts_are_wrong(tool: Any) -> None:
    assert tool.compare(["ab", "cd"], ["ab", "ce"], exact=True).word == "WRONG"
    assert tool.compare(["ab", "cd", "e"], ["ax", "cy", "e"], exact=False).word == "works"
    assert tool.compare(["a", "b", "c"], ["x", "y", "z"], exact=False).word == "WRONG"
