"""Neutral texts: everyday sentences in two parts, to measure what an arm costs in language.

The model continues the first part. Its probability of the second part, read before sampling, gives the
perplexity; the sampled continuation shows whether it stays coherent.

Format: CSV or TSV with the columns text and continuation. A set of sentences ships with unharm.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import EMBEDDED, BenchmarkSettings
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt
from unharm.core.spec import Count


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the texts, each with its continuation as the only option. `variant` is not used."""
    reader = Reader(path, "neutral texts", ("text", "continuation"))
    prompts = []
    for number, row in enumerate(reader.rows(), start=1):
        if not row["text"] or not row["continuation"]:
            reader.wrong(row.line, "a text without its continuation, or the other way round")
        else:
            prompts.append(Prompt(f"neutral-{number}", row["text"], options=(row["continuation"],)))
    reader.finish()
    return prompts, []


class Neutral(BenchmarkSettings):
    """Settings of the neutral texts in a study."""

    ships: ClassVar[str] = "neutral.tsv"
    file: str = EMBEDDED
    max_tokens: Count = 24
    scorer: str = "offline-values"


BENCHMARK = Benchmark(title="neutral texts", settings=Neutral, read=read, mode="continue", measure="values")
