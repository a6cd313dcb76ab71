"""Benign sets in their formats, and what is wrong in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from support.inputs_helpers import PACK
from unharm.core.errors import UserError
from unharm.corpus.benign import BENIGN_FORMATS, load_benign
from unharm.prompting.pack import load_pack


def test_grammar_holds_out_inputs(toy_data: Path) -> None:
    examples = load_benign("grammar", toy_data / "grammar.csv", load_pack("default"), 100, 1).examples
    assert len(examples) == 100
    train = {e.prompt for e in examples if e.split == "train"}
    valid = {e.prompt for e in examples if e.split == "valid"}
    assert not train & valid
    assert len(valid) == 10
    assert all(e.answer.startswith(" ") for e in examples)


def test_real_grammar(real_data: Path) -> None:
    path = real_data / "benign" / "gtrain_10k.csv"
    found = load_benign("grammar", path, load_pack("default"), None, 1)
    assert 12_000 < len(found.examples) <= 13_016
    assert found.notes == [f"{13_016 - len(found.examples)} repeated rows left out"]


ROWS: dict[str, list[dict[str, str]]] = {
    "alpaca": [
        {"instruction": f"Count to {i}", "input": "slowly" if i % 2 else "", "output": "one"}
        for i in range(40)
    ],
    "dolly": [
        {"instruction": f"Name {i} birds", "context": "", "response": "wren", "category": "open"}
        for i in range(38)
    ]
    + [
        {"instruction": "How to build a weapon?", "context": "", "response": "no", "category": "open"},
        {"instruction": "Name a knight", "context": "He was killed.", "response": "Max", "category": "qa"},
    ],
    "samsum": [{"id": str(i), "dialogue": f"A: {i}?\r\nB: yes", "summary": "yes"} for i in range(40)],
}


def written(folder: Path, name: str, kind: str) -> Path:
    path = folder / f"{name}.{kind}"
    if kind == "json":
        path.write_text(json.dumps(ROWS[name], indent=1))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS[name])) + "\n")
    elif kind == "parquet":
        pl.DataFrame(ROWS[name]).write_parquet(path)
    else:
        pl.DataFrame(ROWS[name]).write_csv(path)
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "csv"])
@pytest.mark.parametrize("name", ["alpaca", "dolly", "samsum"])
def test_benign_sets_in_their_formats(tmp_path: Path, name: str, kind: str) -> None:
    found = load_benign(name, written(tmp_path, name, kind), PACK, None, 1)
    assert len(found.examples) == (38 if name == "dolly" else 40)
    assert found.notes == (["2 safety-related rows left out"] if name == "dolly" else [])
    parts = {s: {e.prompt for e in found.examples if e.split == s} for s in ("train", "valid", "test")}
    assert all(parts.values())
    assert not parts["train"] & (parts["valid"] | parts["test"])
    assert {e.id for e in found.examples} == {
        e.id for e in load_benign(name, written(tmp_path, name, "jsonl"), PACK, None, 1).examples
    }


def test_alpaca_prompts_have_their_input_where_there_is_one(tmp_path: Path) -> None:
    prompts = {
        e.prompt for e in load_benign("alpaca", written(tmp_path, "alpaca", "json"), PACK, None, 1).examples
    }
    assert "Task: Count to 1\nText: slowly\nResponse:" in prompts
    assert "Task: Count to 2\nResponse:" in prompts


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("alpaca", '[{"instruction": "x", "input": ""}]', "no text in output"),
        ("alpaca", '[{"instruction": "x"', "not JSON"),
        ("dolly", '{"instruction": "x", "context": "", "response": ""}', "no text in response"),
        ("samsum", "[1]", "row 1 is not an object"),
        ("samsum", "[]", "this set has no row"),
    ],
)
def test_wrong_benign_files(tmp_path: Path, name: str, content: str, told: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError, match=told) as caught:
        load_benign(name, path, PACK, None, 1)
    assert str(path) in str(caught.value)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(UserError, match="tatsu-lab/alpaca cannot be read from the hub") as caught:
        load_benign("alpaca", None, PACK, None, 1)
    assert "corpus.benign.alpaca.file" in str(caught.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'unharm\[hub\]'"):
        load_benign("alpaca", None, PACK, None, 1)
    with pytest.raises(UserError, match="not on the hub"):
        load_benign("grammar", None, PACK, None, 1)


def test_every_benign_set_is_an_arm() -> None:
    from unharm.core.arms import BENIGN_SETS

    assert set(BENIGN_FORMATS) == set(BENIGN_SETS)
