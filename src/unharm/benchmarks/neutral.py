"""Neutral texts: everyday sentences in two parts, to measure what an arm costs in language.

The model continues the first part. Its probability of the second part, read before sampling, gives the
perplexity; the sampled continuation shows whether it stays coherent.

Format: CSV or TSV with the columns text and continuation. A set of sentences ships with unharm.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt
from unharm.core.spec import Count

EMBEDDED = "embedded"
"""The value of `file` that selects the sentences that ship with unharm."""


def embedded_texts() -> Path:
    """Return the path of the sentences that ship with unharm."""
    return Path(str(resources.files("unharm.benchmarks"))) / "neutral.tsv"


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

    file: str = EMBEDDED
    max_tokens: Count = 24
    scorer: str = "offline-values"

    @property
    def embedded(self) -> Path | None:
        """The path of the texts that ship with unharm; None if the user names a file."""
        return embedded_texts() if self.file == EMBEDDED else None


BENCHMARK = Benchmark(title="neutral texts", settings=Neutral, read=read, mode="continue", measure="values")
