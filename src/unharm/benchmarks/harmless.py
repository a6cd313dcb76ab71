"""Harmless questions: what a guard against harm costs is how often it makes a model refuse these.

Format: one question per line; or those that come with unharm.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.files.yaml_text import read_text
from unharm.core.records import Prompt

EMBEDDED = "embedded"
"""As `file`: the questions that ship with unharm."""


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """The questions, numbered by their lines; empty lines are left out."""
    lines = read_text(path, "harmless questions").splitlines()
    return [Prompt(f"harmless-{n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()], []


class Harmless(BenchmarkSettings):
    """Questions that any model should answer: what a guard costs."""

    file: str = EMBEDDED
    scorer: str = "refusal"

    @property
    def embedded(self) -> Path | None:
        """Our own questions, unless the user names a file."""
        if self.file != EMBEDDED:
            return None
        return Path(str(resources.files("unharm.benchmarks"))) / "harmless.txt"


BENCHMARK = Benchmark(
    title="harmless questions", settings=Harmless, read=read, mode="ask", measure="refusal"
)
