"""BeaverTails-Evaluation (Ji et al., 2023; CC BY-NC 4.0): questions in 14 harm categories.

Formats: CSV with the columns prompt, category, category_id; or the original JSON, a list of objects
with these fields.
"""

from __future__ import annotations

import re
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.json_lines import read_list, without
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt

WHAT = "BeaverTails-Evaluation"
WITHHELD = re.compile(r"^\[.*\bwithheld\b.*\]$", re.IGNORECASE)
"""Some copies replace the prompts of a category by a note in brackets; these are no prompts."""


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """The prompts, numbered in the order of the file; withheld ones are left out and counted by
    category."""
    found = _from_json(path) if path.suffix == ".json" else _from_csv(path)
    prompts = []
    withheld: dict[str, int] = {}
    for position, (text, category) in enumerate(found):
        if WITHHELD.match(text):
            withheld[category] = withheld.get(category, 0) + 1
        else:
            prompts.append(Prompt(f"beavertails-{position}", text, category))
    return prompts, [f"{n} prompts of {c} are withheld in this copy" for c, n in withheld.items()]


def _from_json(path: Path) -> list[tuple[str, str]]:
    rows = read_list(
        path,
        WHAT,
        lambda row: (
            without(row, ("prompt", "category")) or Prompt("", row["prompt"].strip(), row["category"])
        ),
    )
    return [(row.text, row.category) for row in rows]


def _from_csv(path: Path) -> list[tuple[str, str]]:
    reader = Reader(path, WHAT, ("prompt", "category", "category_id"))
    rows = []
    for row in reader.rows():
        if not row["prompt"] or not row["category"]:
            reader.wrong(row.line, f"{WHAT}: an empty prompt or category")
        rows.append((row["prompt"], row["category"]))
    reader.finish()
    return rows


class BeaverTails(BenchmarkSettings):
    scorer: str = "offline-flagged"


BENCHMARK = Benchmark(
    title=WHAT,
    settings=BeaverTails,
    read=read,
    mode="ask",
    measure="flagged",
    published=PublishedSize(prompts=700, categories=14, characters=75),
    data_set=DataSet(
        WHAT,
        "benchmarks.beavertails",
        "PKU-Alignment/BeaverTails-Evaluation on the hub",
        "CC BY-NC 4.0",
        (700,),
    ),
)
