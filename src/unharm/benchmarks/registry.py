"""The table of benchmarks, and how the prompts of one are read for a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from unharm.benchmarks import beavertails, harmless, hbr, hexphi, questionnaire, rtp, strongreject, xstest
from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.draws import rank
from unharm.core.errors import UserError
from unharm.core.records import Prompt
from unharm.core.spec import Spec

BENCHMARKS: dict[str, Benchmark] = {
    "rtp": rtp.BENCHMARK,
    "hbr": hbr.BENCHMARK,
    "hexphi": hexphi.BENCHMARK,
    "strongreject": strongreject.BENCHMARK,
    "beavertails": beavertails.BENCHMARK,
    "xstest": xstest.BENCHMARK,
    "harmless": harmless.BENCHMARK,
    "questionnaire": questionnaire.BENCHMARK,
}
"""Every benchmark by its name in a study, in the order in which they are reported."""


HARMLESS = next(name for name, row in BENCHMARKS.items() if row is harmless.BENCHMARK)
"""The benchmark that says what a guard prompt costs."""


class ChosenBenchmarks(Spec):
    """The field `benchmarks` of a study: settings by name, None for a benchmark that is not chosen."""

    def chosen(self) -> dict[str, BenchmarkSettings]:
        """The settings of the chosen benchmarks, in the order of `BENCHMARKS`."""
        return {name: found for name in BENCHMARKS if (found := getattr(self, name))}


_fields: dict[str, Any] = {name: (row.settings | None, None) for name, row in BENCHMARKS.items()}

if TYPE_CHECKING:
    Benchmarks = ChosenBenchmarks
else:
    Benchmarks = create_model("Benchmarks", __base__=ChosenBenchmarks, **_fields)


def with_measure(*measures: str) -> tuple[str, ...]:
    """The names of the benchmarks that are scored for one of these measures."""
    return tuple(name for name, row in BENCHMARKS.items() if row.measure in measures)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one benchmark in a study, and notes on what was left out of the file and why."""

    name: str
    prompts: list[Prompt]
    notes: list[str]

    @property
    def benchmark(self) -> Benchmark:
        return BENCHMARKS[self.name]


def load(name: str, path: Path, limit: int | None, seed: int, variant: str | None = None) -> PromptSet:
    """Read a benchmark and take at most `limit` of its prompts.

    Args:
        name: The benchmark's name in `BENCHMARKS`.
        path: Its file or folder.
        limit: The most prompts to take; None for all.
        seed: Draws the prompts under a limit.
        variant: What the settings say about reading the file.

    Raises:
        UserError: The file cannot be read or has another format, an id is there twice, or there is no
            prompt in it.
    """
    row = BENCHMARKS[name]
    prompts, notes = row.read(path, variant)
    if not prompts:
        raise UserError(f"{row.title}: no prompt in it", str(path), "check the file")
    ids = [p.id for p in prompts]
    if len(set(ids)) != len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})[:5]
        raise UserError(f"{row.title}: the same id for several prompts: {', '.join(twice)}", str(path))
    chosen = prompts if limit is None else _limited(prompts, limit, seed, row.in_order)
    return PromptSet(name, chosen, notes)


def half_of(prompts: list[Prompt], half: str | None, seed: int) -> list[Prompt]:
    """One half of the prompts, `a` or `b`, split as evenly as can be within each category; all prompts
    where `half` is None."""
    if half is None:
        return prompts
    taken = {
        prompt.id
        for several in _by_category(prompts).values()
        for turn, prompt in enumerate(sorted(several, key=lambda p: rank(seed, f"half {p.id}")))
        if (turn % 2 == 0) == (half == "a")
    }
    return [p for p in prompts if p.id in taken]


def _limited(prompts: list[Prompt], limit: int, seed: int, in_order: bool) -> list[Prompt]:
    if in_order or limit >= len(prompts):
        return prompts[:limit]
    by_category = _by_category(prompts)
    ranked = [
        (turn, place, prompt.id)
        for place, category in enumerate(sorted(by_category))
        for turn, prompt in enumerate(sorted(by_category[category], key=lambda p: rank(seed, p.id)))
    ]
    taken = {i for _, _, i in sorted(ranked)[:limit]}
    return [p for p in prompts if p.id in taken]


def _by_category(prompts: list[Prompt]) -> dict[str, list[Prompt]]:
    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    return by_category
