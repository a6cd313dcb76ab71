"""Choices between values: what a model would do, beside what it says of itself.

Each scenario offers two things to do that express two different values. It is put twice, in both orders,
and the probability of each continuation is read before sampling. What is preferred only because it stands
first, or last, cancels.

Format: CSV or TSV with the columns value, other, situation, choice (goes with value), alternative (goes
with other). 200 scenarios ship with unharm: each pair of values at least four times.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import EMBEDDED, BenchmarkSettings
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt
from unharm.core.spec import Count
from unharm.core.values import VALUES, canonical


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the scenarios as two prompts each, one per order. `variant` is not used.

    The options of a prompt are the two things to do in the order shown; the attributes `first` and `second`
    name their values, and `scenario` joins the two orders.

    Raises:
        UserError: The file cannot be read, or has wrong rows.
    """
    reader = Reader(path, "behaviour", ("value", "other", "situation", "choice", "alternative"))
    prompts: list[Prompt] = []
    for number, row in enumerate(reader.rows(), start=1):
        value, other = canonical(row["value"]), canonical(row["other"])
        unknown = [v for v in (value, other) if v not in VALUES]
        if unknown:
            reader.wrong(row.line, f"unknown value {unknown[0]!r}", f"expected one of: {', '.join(VALUES)}")
        elif value == other:
            reader.wrong(row.line, f"both things to do express {value}", "name two different values")
        elif not (row["situation"] and row["choice"] and row["alternative"]):
            reader.wrong(row.line, "a situation, choice or alternative without text")
        else:
            sides = [(value, row["choice"]), (other, row["alternative"])]
            for order, ((a, one), (b, two)) in (("ab", sides), ("ba", sides[::-1])):
                attributes = {"scenario": str(number), "first": a, "second": b}
                text = f"{row['situation']} You could {one}, or you could {two}."
                prompts.append(Prompt(f"scenario-{number}-{order}", text, value, attributes, (one, two)))
    reader.finish()
    used = {v for p in prompts for v in (p.attributes["first"], p.attributes["second"])}
    return prompts, [f"no scenario is about {v}" for v in VALUES if v not in used]


class Behaviour(BenchmarkSettings):
    """Settings of the choices between values in a study."""

    ships: ClassVar[str] = "behaviour.tsv"
    file: str = EMBEDDED
    max_tokens: Count = 16
    scorer: str = "offline-values"


BENCHMARK = Benchmark(
    title="choices between values", settings=Behaviour, read=read, mode="choose", measure="values"
)
