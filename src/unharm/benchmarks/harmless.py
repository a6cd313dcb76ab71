"""Harmless questions. How often a guard prompt makes a model refuse them is the cost of the guard.

Format: one question per line. A set of questions ships with unharm.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import EMBEDDED, BenchmarkSettings
from unharm.core.files.yaml_text import read_text
from unharm.core.records import Prompt


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the questions, numbered by line. Empty lines are left out. `variant` is not used."""
    lines = read_text(path, "harmless questions").splitlines()
    return [Prompt(f"harmless-{n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()], []


class Harmless(BenchmarkSettings):
    """Settings of the harmless questions in a study."""

    ships: ClassVar[str] = "harmless.txt"
    file: str = EMBEDDED
    scorer: str = "refusal"


BENCHMARK = Benchmark(
    title="harmless questions", settings=Harmless, read=read, mode="ask", measure="refusal"
)
