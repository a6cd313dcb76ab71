"""Harmless questions. How often a guard prompt makes a model refuse them is the cost of the guard.

Format: one question per line. A set of questions ships with unharm.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.files.yaml_text import read_text
from unharm.core.records import Prompt

EMBEDDED = "embedded"
"""The value of `file` that selects the questions that ship with unharm."""


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the questions, numbered by line. Empty lines are left out. `variant` is not used."""
    lines = read_text(path, "harmless questions").splitlines()
    return [Prompt(f"harmless-{n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()], []


class Harmless(BenchmarkSettings):
    """Settings of the harmless questions in a study."""

    file: str = EMBEDDED
    scorer: str = "refusal"

    @property
    def embedded(self) -> Path | None:
        """The path of the questions that ship with unharm; None if the user names a file."""
        if self.file != EMBEDDED:
            return None
        return Path(str(resources.files("unharm.benchmarks"))) / "harmless.txt"


BENCHMARK = Benchmark(
    title="harmless questions", settings=Harmless, read=read, mode="ask", measure="refusal"
)
