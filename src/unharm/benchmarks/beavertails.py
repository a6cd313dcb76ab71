"""BeaverTails-Evaluation (Ji et al., 2023; CC BY-NC 4.0): questions in 14 harm categories.

Format: CSV with the columns prompt, category, category_id.
"""

from __future__ import annotations

import re
from pathlib import Path

from unharm.delimited import Reader
from unharm.records import Prompt

WITHHELD = re.compile(r"^\[.*\bwithheld\b.*\]$", re.IGNORECASE)
"""Some copies replace the prompts of a category by a note in brackets; these are no prompts."""


def read(path: Path, key: str | None = None) -> tuple[list[Prompt], list[str]]:
    """The prompts; withheld ones are left out and counted by category."""
    reader = Reader(path, "BeaverTails-Evaluation", ("prompt", "category", "category_id"))
    prompts = []
    withheld: dict[str, int] = {}
    for position, row in enumerate(reader.rows()):
        if not row["prompt"] or not row["category"]:
            reader.wrong(row.line, "BeaverTails-Evaluation: an empty prompt or category")
        elif WITHHELD.match(row["prompt"]):
            withheld[row["category"]] = withheld.get(row["category"], 0) + 1
        else:
            prompts.append(Prompt(f"beavertails-{position}", row["prompt"], row["category"]))
    reader.finish()
    return prompts, [f"{n} prompts of {c} are withheld in this copy" for c, n in withheld.items()]
