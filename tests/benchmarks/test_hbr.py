"""Tests of `unharm.benchmarks.hbr`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from unharm.benchmarks.registry import load_prompts


def test_hbr_plain_and_gzip_are_the_same(tmp_path: Path, toy_data: Path) -> None:
    text = (toy_data / "hbr.jsonl").read_text()
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert (
        load_prompts("hbr", path, None, 0).prompts
        == load_prompts("hbr", toy_data / "hbr.jsonl", None, 0).prompts
    )
    first = json.loads(text.splitlines()[0])
    assert (
        load_prompts("hbr", path, None, 0).prompts[0].attributes["group"] == first["formatted_noun_phrase"]
    )
