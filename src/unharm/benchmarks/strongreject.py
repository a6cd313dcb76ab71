"""StrongREJECT (Souly et al., 2024; MIT): forbidden prompts in six categories, open access.

Format: the published `strongreject_dataset.csv` with the columns category, source and forbidden_prompt. It
can replace HEx-PHI, which is gated: both are scored for harmfulness from 1 to 5.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt


class StrongREJECT(BenchmarkSettings):
    scorer: str = "offline-harmfulness"


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the prompts. The id of a prompt is a hash of its text, so it does not depend on the file order.

    Raises:
        UserError: With every row that has no category or no prompt.
    """
    reader = Reader(path, "StrongREJECT", ("category", "source", "forbidden_prompt"))
    prompts = []
    for row in reader.rows():
        text = row["forbidden_prompt"]
        if not text or not row["category"]:
            reader.wrong(row.line, "StrongREJECT: an empty category or prompt")
            continue
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        attributes = {"source": row["source"]}
        prompts.append(Prompt(f"strongreject-{digest}", text, row["category"], attributes))
    reader.finish()
    return prompts, []


BENCHMARK = Benchmark(
    title="StrongREJECT",
    settings=StrongREJECT,
    read=read,
    mode="ask",
    measure="harmfulness",
    or_measures=("flagged",),
    published=PublishedSize(prompts=313, categories=6, characters=140),
    data_set=DataSet(
        "StrongREJECT", "benchmarks.strongreject", "alexandrasouly/strongreject on GitHub", "MIT", (313,)
    ),
)
