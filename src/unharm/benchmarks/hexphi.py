"""HEx-PHI (Qi et al., 2023; gated): harmful instructions by category of prohibited use.

Format: a folder with `category_<number>_<name>.csv` files without a header, one quoted prompt per line.
Category 2 was withdrawn: the current release has 300 prompts in ten files, an older copy 330 in eleven.
Both are complete.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import read_text
from unharm.core.records import Prompt

FILE = re.compile(r"category_(\d+)_(.+)\.csv$")
NUMBERS = set(range(1, 12))
WITHDRAWN = {2}


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the prompts, ordered by category number.

    Args:
        path: The folder with the category files.
        variant: Not used by this benchmark.

    Returns:
        The prompts, and one note for each missing category.

    Raises:
        UserError: The path is not a folder with category files.
    """
    if not path.is_dir():
        raise UserError("HEx-PHI: expected the folder with its category files", str(path))
    files = sorted(
        (int(match[1]), match[2], file) for file in path.iterdir() if (match := FILE.match(file.name))
    )
    if not files:
        raise UserError(
            "HEx-PHI: no category_<number>_<name>.csv in this folder",
            str(path),
            "ask for access at the data set's page, then place its files here; strongreject is open",
        )
    prompts = []
    for number, name, file in files:
        rows = csv.reader(io.StringIO(read_text(file, "HEx-PHI"), newline=""))
        for position, cells in enumerate(rows):
            text = ",".join(cells).strip()
            if text:
                prompts.append(Prompt(f"hexphi-{number}-{position}", text, name))
    missing = sorted(NUMBERS - WITHDRAWN - {number for number, _, _ in files})
    notes = [f"category {n} has no file" for n in missing]
    return prompts, notes


class HExPHI(BenchmarkSettings):
    """Settings of HEx-PHI in a study."""

    scorer: str = "offline-harmfulness"


BENCHMARK = Benchmark(
    title="HEx-PHI",
    settings=HExPHI,
    read=read,
    mode="ask",
    measure="harmfulness",
    or_measures=("flagged",),
    published=PublishedSize(prompts=300, categories=10, characters=170),
    data_set=DataSet(
        "HEx-PHI",
        "benchmarks.hexphi",
        "LLM-Tuning-Safety/HEx-PHI on the hub, gated",
        "see its page",
        (300, 330),
        "ask for access on its page, then put its category files into one folder; not granted? "
        "benchmarks.strongreject is open and scored alike",
    ),
)
