"""A key in the environment, and a server that sends requests on or wants another key.

What becomes of a key that a server repeats in its answers is tested in `hostile/test_hostile_study.py`.
"""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from hostile.hostile_study import KEY, VARIABLE, leaks, leaks_in_folder
from support.commands import unharm as command
from support.servers import Faulty, serving


def study(folder: Path, url: str) -> Path:
    """A study whose completions, and the verdicts on some of them, come from one server."""
    server = {"url": url, "key": VARIABLE, "attempts": 2, "timeout": 10}
    data: dict[str, Any] = {
        "name": "canary", "base": "small", "data": "toy", "output": str(folder / "run"),
        "arms": ["served:small"], "served": {"small": {**server, "model": "small", "patience": 0}},
        "scorers": {"judge": {"kind": "judge", "model": "small", "server": server, "tries": 2}},
        "benchmarks": {
            "hexphi": {"file": "hexphi", "limit": 10, "max_tokens": 5, "scorer": "judge"},
            "rtp": {"file": "rtp.csv", "limit": 4, "samples": 2, "max_tokens": 5},
        },
    }  # fmt: skip
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def unharm(folder: Path, *words: str) -> tuple[int, bytes]:
    """The exit code of a command, and all that it printed."""
    environment = os.environ | {VARIABLE: KEY, "OMP_NUM_THREADS": "1"}
    ended = command(*words, cwd=folder, env=environment)
    return ended.returncode, (ended.stdout + ended.stderr).encode()


def test_the_search_finds_a_key(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text(f"x{KEY}x")
    (tmp_path / "header").write_bytes(b64encode(f"Bearer {KEY}".encode()))
    pl.DataFrame({"text": [KEY] * 50}).write_parquet(tmp_path / "packed.parquet", compression="zstd")
    found = leaks_in_folder(tmp_path)
    assert "the key in plain.txt" in found
    assert "base64 after 1 bytes in header" in found
    assert "the key in packed.parquet (unpacked)" in found


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_redirect_gets_no_prompt(tmp_path: Path, when: str) -> None:
    with serving(Faulty()) as other, serving(Faulty(key=KEY, reflects=True)) as server:
        server.target = f"{other.url}/completions"
        server.plan = lambda prompt, attempt: (
            "away" if when == "at once" or len(server.bodies) > 4 else "answer"
        )
        code, printed = unharm(tmp_path, "run", str(study(tmp_path, server.url)))
    assert code == 2
    assert b"sends requests on to another host" in printed
    assert b"Traceback" not in printed
    assert (other.bodies, other.tries.total()) == ([], 0)
    assert leaks("what was printed", printed) + leaks_in_folder(tmp_path) == []


def test_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    with serving(Faulty(key="another")) as server:
        code, printed = unharm(tmp_path, "run", str(study(tmp_path, server.url)))
    assert code == 2
    assert VARIABLE.encode() in printed
    assert leaks("what was printed", printed) + leaks_in_folder(tmp_path) == []
