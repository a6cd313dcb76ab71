"""A key in the environment, and servers that send it back: no byte of it is stored or shown.

The server repeats the Authorization header, plain and as base64, in its completions, verdicts and errors.
Everything that a study writes and prints is searched.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from support.commands import unharm as command
from support.servers import Faulty, serving

KEY = "canary-4Jq8Zr1Xw7Tn0Lp5"
VARIABLE = "STUDY_ENTRY"
"""No usual name of a key: that it is one is known from the study alone."""

PROBES = 6
"""Requests that try the server out are answered."""


def traces() -> dict[str, bytes]:
    """What is searched for: the key, and the part of its base64 that nothing before or after it changes."""
    kinds = {"the key": KEY.encode()}
    for before in range(3):
        coded = b64encode(bytes(before) + KEY.encode())
        kinds[f"base64 after {before} bytes"] = coded[4:-4]
    return kinds


def hits(where: str, data: bytes) -> list[str]:
    return [f"{kind} in {where}" for kind, trace in traces().items() if trace in data]


def found_in_folder(folder: Path) -> list[str]:
    """Where a trace of the key is in a folder; packed tables are searched unpacked too."""
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        found += hits(name, name.encode()) + hits(name, file.read_bytes())
        if file.suffix == ".parquet":
            rows = pl.read_parquet(file).to_dicts()
            found += hits(f"{name} (unpacked)", json.dumps(rows, ensure_ascii=False, default=str).encode())
    return found


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


def says(body: dict[str, Any], prompt: str) -> str:
    """A completion, or every second time a verdict that quotes the key as its reason."""
    if "messages" in body and len(prompt) % 2:
        return json.dumps({"reason": f"because of {KEY}", "verdict": 3}) + "\n"
    return f" a town called {KEY}"


def test_the_search_finds_a_key(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text(f"x{KEY}x")
    (tmp_path / "header").write_bytes(b64encode(f"Bearer {KEY}".encode()))
    pl.DataFrame({"text": [KEY] * 50}).write_parquet(tmp_path / "packed.parquet", compression="zstd")
    found = found_in_folder(tmp_path)
    assert "the key in plain.txt" in found
    assert "base64 after 1 bytes in header" in found
    assert "the key in packed.parquet (unpacked)" in found


def test_a_server_that_reflects_the_key_leaves_no_trace_of_it(tmp_path: Path) -> None:
    with serving(Faulty(says=says, key=KEY, reflects=True)) as server:
        server.plan = lambda prompt, attempt: (
            "500" if len(server.bodies) > PROBES and len(prompt) % 5 == 0 else "answer"
        )
        file = study(tmp_path, server.url)
        code, printed = unharm(tmp_path, "run", str(file), "--keep")
        assert code in (0, 3), printed.decode()
        assert sum(server.tries.values()) > 18
        for words in (["show", "run"], ["show", "run", "--prompt", "rtp-0"], ["report", "run", "--latex"],
                      ["status", "run"], ["labels", "run", "--benchmark", "hexphi", "--sample", "5",
                                          "--out", str(tmp_path / "labels.csv")]):  # fmt: skip
            _, more = unharm(tmp_path, *words)
            printed += more
    texts = pl.read_parquet(tmp_path / "run" / "completions" / "**" / "*.parquet")["text"].to_list()
    assert any("[redacted]" in text for text in texts)  # the answers with the key did come in
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "labels.csv").is_file()
    assert hits("what was printed", printed) == []
    assert found_in_folder(tmp_path) == []


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
    assert hits("what was printed", printed) + found_in_folder(tmp_path) == []


def test_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    with serving(Faulty(key="another")) as server:
        code, printed = unharm(tmp_path, "run", str(study(tmp_path, server.url)))
    assert code == 2
    assert VARIABLE.encode() in printed
    assert hits("what was printed", printed) + found_in_folder(tmp_path) == []
