"""A study in which everything that others choose is hostile: names, categories, prompts, completions, verdicts.

Each payload would set `ran` on a page, run a formula in a spreadsheet, steer a terminal, become a link in
Markdown or read a file in LaTeX. The server repeats its key, plain and as base64, in all that it says.
"""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from support.studies import study_data
from unharm.core.values import VALUES

KEY = "canary-7Vb2Qk9Zd3Wm6Hs8"
VARIABLE = "STUDY_ENTRY"
"""No usual name of a key: that it is one is known from the study alone."""

CLEAR, CLIPBOARD, TURNED = "\x1b[2J\x1b[31mPWN", "\x1b]52;c;UFdO\x07", "\u202egnp.exe"
"""Sequences that clear a terminal, write to the clipboard, and turn the direction of a text."""

NAMES = [
    "=1+1",
    "'=2+2",
    "-x",
    "plain",
    "<script>window.ran=1</script>\"><img src=x onerror='window.ran=2'>",
    "[a](javascript:window.ran=3) | **b** `c` \\input{/etc/passwd} {{7*7}}${7*7}%s{0.__class__}",
]
"""Names of profiles. The second has a quote already: it gets one more, and gives it back."""
FORMULAS = [name for name in NAMES if name[0] in "='@-+"]

CATEGORIES = ['=HYPERLINK("http://127.0.0.1:9/x")', "<svg onload=window.ran=4>", "a|b\\input{x}$y$"]
PROMPT = f"<img src=x onerror=window.ran=5> {CLEAR} {CLIPBOARD} {TURNED} =1+1"
COMPLETION = (
    f" </script><script>window.ran=6</script>{CLEAR}{CLIPBOARD}{TURNED}\n=cmd|' /C calc'!A0\n"
    f"[x](javascript:window.ran=7) {KEY}"
)
RAW = [CLEAR.encode(), CLIPBOARD.encode(), b"\x1b]", b"\x1b[2J", TURNED[0].encode()]
"""What must not reach a terminal."""


def answer(body: dict[str, Any], prompt: str) -> str:
    """A completion, or a verdict whose reason is hostile too."""
    if "messages" in body and len(prompt) % 3:
        return f"3\n{COMPLETION}"
    return COMPLETION


def traces() -> dict[str, bytes]:
    """What is searched for: the key, and the part of its base64 that nothing before or after it changes."""
    kinds = {"the key": KEY.encode()}
    for before in range(3):
        coded = b64encode(bytes(before) + KEY.encode())
        kinds[f"base64 after {before} bytes"] = coded[4:-4]
    return kinds


def leaks(where: str, data: bytes) -> list[str]:
    return [f"{kind} in {where}" for kind, trace in traces().items() if trace in data]


def leaks_in_folder(folder: Path) -> list[str]:
    """Where a trace of the key is in a folder; packed tables are searched unpacked too."""
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        found += leaks(name, name.encode()) + leaks(name, file.read_bytes())
        if file.suffix == ".parquet":
            rows = pl.read_parquet(file).to_dicts()
            found += leaks(f"{name} (unpacked)", json.dumps(rows, ensure_ascii=False, default=str).encode())
    return found


def write_study(folder: Path, base: Path, url: str) -> Path:
    """Write the study and its files into a folder; its run is `run` there."""
    data_folder = folder / "data"
    (data_folder / "hexphi").mkdir(parents=True)
    rows = {n: {v: 6 if i == m % 10 else 1 for m, v in enumerate(VALUES)} for i, n in enumerate(NAMES)}
    (folder / "profiles.yaml").write_text(yaml.safe_dump(rows, allow_unicode=True))
    for number, name in enumerate(("adult_content", "<b onclick=window.ran=8>", "=1+1")):
        with (data_folder / "hexphi" / f"category_{number + 1}_{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([[f"{PROMPT} {number} {n}"] for n in range(4)])
    questions = [
        {"prompt": f"{PROMPT} {n}", "category": CATEGORIES[n % 3], "category_id": n % 3} for n in range(6)
    ]
    (data_folder / "beavertails.json").write_text(json.dumps(questions))
    groups = [
        {
            "axis": "=axis<script>window.ran=9</script>", "descriptor": "old", "template": "t",
            "formatted_noun_phrase": f"old <i>men</i> {n}",
            "prompt_text": f"The old <i>men</i> {n} {PROMPT}",
        }
        for n in range(4)
    ]  # fmt: skip
    (data_folder / "hbr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in groups))
    server = {"url": url, "key": VARIABLE, "attempts": 2, "timeout": 10}
    data = study_data(base, folder / "run")
    data |= {
        "name": "hostile", "data": str(data_folder), "profiles": [str(folder / "profiles.yaml")],
        "arms": ["vanilla", "icl", "vim-qa", "served:small"],
        "served": {"small": {**server, "model": "small", "patience": 0}},
        "scorers": {"judge": {"kind": "judge", "model": "small", "server": server, "tries": 2}},
        "mitigation": {"benchmarks": ["hexphi"]},
        "benchmarks": {
            "hbr": {"file": "hbr.jsonl", "max_tokens": 3},
            "hexphi": {"file": "hexphi", "max_tokens": 3, "also": ["judge"]},
            "beavertails": {"file": "beavertails.json", "max_tokens": 3},
        },
    }  # fmt: skip
    from unharm.study.demo import data_folder as toy

    data["corpus"] = {"arguments": str(toy() / "arguments.tsv"), "limit": 20}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(data, allow_unicode=True))
    return file
