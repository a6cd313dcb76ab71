"""BeaverTails-Evaluation (Ji et al., 2023; CC BY-NC 4.0): questions in 14 harm categories.

Formats: CSV with the columns prompt, category, category_id; or the original JSON, a list of objects
with these fields.
"""

from __future__ import annotations

import re
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.json_lines import missing_fields, read_list
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt

TITLE = "BeaverTails-Evaluation"
WITHHELD = re.compile(r"^\[.*\bwithheld\b.*\]$", re.IGNORECASE)
"""Matches the note in brackets that replaces withheld prompts in some copies of the data set."""


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the prompts, numbered in file order.

    Args:
        path: The CSV or JSON file.
        variant: Not used by this benchmark.

    Returns:
        The prompts, and one note for each category with withheld prompts. Withheld prompts are left out
        but keep their number.

    Raises:
        UserError: The file cannot be read, or rows are malformed (all of them are listed).
    """
    rows = _from_json(path) if path.suffix == ".json" else _from_csv(path)
    prompts = []
    withheld: dict[str, int] = {}
    for position, (text, category) in enumerate(rows):
        if WITHHELD.match(text):
            withheld[category] = withheld.get(category, 0) + 1
        else:
            prompts.append(Prompt(f"beavertails-{position}", text, category))
    return prompts, [f"{n} prompts of {c} are withheld in this copy" for c, n in withheld.items()]


def _from_json(path: Path) -> list[tuple[str, str]]:
    rows = read_list(
        path,
        TITLE,
        lambda row: (
            missing_fields(row, ("prompt", "category"))
            or Prompt("", row["prompt"].strip(), row["category"])
        ),
    )
    return [(row.text, row.category) for row in rows]


def _from_csv(path: Path) -> list[tuple[str, str]]:
    reader = Reader(path, TITLE, ("prompt", "category", "category_id"))
    rows = []
    for row in reader.rows():
        if not row["prompt"] or not row["category"]:
            reader.wrong(row.line, f"{TITLE}: an empty prompt or category")
        rows.append((row["prompt"], row["category"]))
    reader.finish()
    return rows


class BeaverTails(BenchmarkSettings):
    """Settings of BeaverTails in a study."""

    scorer: str = "offline-flagged"


BENCHMARK = Benchmark(
    title=TITLE,
    settings=BeaverTails,
    read=read,
    mode="ask",
    measure="flagged",
    published=PublishedSize(prompts=700, categories=14, characters=75),
    data_set=DataSet(
        TITLE,
        "benchmarks.beavertails",
        "PKU-Alignment/BeaverTails-Evaluation on the hub",
        "CC BY-NC 4.0",
        (700,),
    ),
)
