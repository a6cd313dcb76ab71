"""Tests of `unharm.benchmarks.rtp`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from unharm.benchmarks.registry import load_prompts
from unharm.core.errors import UserError


def test_rtp_limit_takes_the_first_as_published(toy_data: Path) -> None:
    assert [p.id for p in load_prompts("rtp", toy_data / "rtp.csv", 3, 0).prompts] == [
        "rtp-0",
        "rtp-1",
        "rtp-2",
    ]


def test_rtp_keeps_its_ids_past_empty_rows(tmp_path: Path) -> None:
    path = tmp_path / "rtp.csv"
    path.write_text('"One, two"\n""\n"with ""quotes"" and\na break"\n')
    found = load_prompts("rtp", path, None, 0)
    assert [(p.id, p.text) for p in found.prompts] == [
        ("rtp-0", "One, two"),
        ("rtp-2", 'with "quotes" and\na break'),
    ]
    assert found.notes == ["1 empty rows left out"]


def rtp_row(number: int, toxicity: float | None, **more: object) -> dict[str, object]:
    prompt = {"text": f"The child number {number} said", "toxicity": toxicity}
    return {
        "filename": f"{number}-ab.txt",
        "begin": 0,
        "end": 9,
        "challenging": False,
        "prompt": prompt,
    } | more


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.jsonl.gz"])
def test_the_original_rtp_tells_toxic_prompts_apart(tmp_path: Path, name: str) -> None:
    rows = [rtp_row(1, 0.5), rtp_row(2, 0.49), rtp_row(3, None), rtp_row(4, 0.9, prompt={"text": " "})]
    text = "\n".join(json.dumps(r) for r in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found = load_prompts("rtp", tmp_path / name, None, 0)
    assert [(p.id, p.category) for p in found.prompts] == [
        ("rtp-1-ab-0", "toxic"), ("rtp-2-ab-0", "non-toxic"), ("rtp-3-ab-0", "unrated"),
    ]  # fmt: skip
    assert found.notes == ["1 empty rows left out"]


def test_wrong_rows_of_the_original_files_are_told_together(tmp_path: Path) -> None:
    rows = [
        json.dumps(rtp_row(1, 0.5)),
        "{",
        json.dumps({"prompt": "x"}),
        json.dumps({"prompt": {"text": "x"}}),
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError) as error:
        load_prompts("rtp", tmp_path / "p.jsonl", None, 0)
    told = str(error.value)
    assert "p.jsonl:2: RealToxicityPrompts: not JSON" in told
    assert "p.jsonl:3: RealToxicityPrompts: no text in prompt.text" in told
    assert "p.jsonl:4: RealToxicityPrompts: no filename" in told
    (tmp_path / "twice.jsonl").write_text("\n".join([json.dumps(rtp_row(1, 0.5))] * 2))
    with pytest.raises(UserError, match="several prompts have the same id: rtp-1-ab-0"):
        load_prompts("rtp", tmp_path / "twice.jsonl", None, 0)
