"""The table of benchmarks. Loads the prompts of a benchmark for a study."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from unharm.benchmarks import (
    beavertails,
    behaviour,
    harmless,
    hbr,
    hexphi,
    neutral,
    questionnaire,
    rtp,
    strongreject,
    xstest,
)
from unharm.benchmarks.benchmark import Benchmark
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.draws import rank
from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.files.delimited import shortened
from unharm.core.printable import name_problem, text_problem
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
    "neutral": neutral.BENCHMARK,
    "questionnaire": questionnaire.BENCHMARK,
    "behaviour": behaviour.BENCHMARK,
}
"""Every benchmark by its name in a study. Reports keep this order."""

HARMLESS = next(name for name, row in BENCHMARKS.items() if row is harmless.BENCHMARK)
"""The name of the benchmark that measures the cost of a guard prompt."""

BEHAVIOUR, NEUTRAL = (
    next(name for name, row in BENCHMARKS.items() if row is module.BENCHMARK)
    for module in (behaviour, neutral)
)
"""The names of the benchmarks of choices between values, and of neutral texts."""


class ChosenBenchmarks(Spec):
    """The field `benchmarks` of a study: settings by name; None if the study leaves one out."""

    def chosen(self) -> dict[str, BenchmarkSettings]:
        """Return the settings of the chosen benchmarks, in the order of `BENCHMARKS`."""
        return {name: settings for name in BENCHMARKS if (settings := getattr(self, name))}


_fields: dict[str, Any] = {name: (row.settings | None, None) for name, row in BENCHMARKS.items()}

if TYPE_CHECKING:
    Benchmarks = ChosenBenchmarks
else:
    Benchmarks = create_model("Benchmarks", __base__=ChosenBenchmarks, **_fields)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one benchmark in a study, and notes on what was left out and why."""

    name: str
    prompts: list[Prompt]
    notes: list[str]

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark that the prompts belong to."""
        return BENCHMARKS[self.name]


def load_prompts(
    name: str, path: Path, limit: int | None, seed: int, variant: str | None = None
) -> PromptSet:
    """Read a benchmark and keep at most `limit` of its prompts.

    Args:
        name: The benchmark's name in `BENCHMARKS`.
        path: Its file or folder.
        limit: The largest number of prompts to keep; None for all.
        seed: Seed of the draw under a limit.
        variant: What the reader must know besides the path (`BenchmarkSettings.variant`).

    Returns:
        The prompts in file order, and notes on what was left out.

    Raises:
        UserError: The file cannot be read, has another format, has no prompt, or has two prompts with the
            same id.
    """
    row = BENCHMARKS[name]
    prompts, notes = row.read(path, variant)
    if not prompts:
        raise UserError(f"{row.title}: no prompt in this file", str(path), "check the file")
    raise_all(shortened(_unfit_prompts(prompts, row.title, str(path)), str(path)))
    times = Counter(p.id for p in prompts)
    if len(times) != len(prompts):
        repeated = sorted(i for i, count in times.items() if count > 1)[:5]
        raise UserError(f"{row.title}: several prompts have the same id: {', '.join(repeated)}", str(path))
    chosen = prompts if limit is None else _limited(prompts, limit, seed, row.in_order)
    return PromptSet(name, chosen, notes)


def _unfit_prompts(prompts: list[Prompt], title: str, where: str) -> list[Problem]:
    """Return what is wrong with the texts and names of prompts, which are stored and sent as UTF-8."""
    problems = []
    for prompt in prompts:
        if problem := text_problem(prompt.text) or text_problem(prompt.id):
            problems.append(Problem(f"{title}: {problem}", where, "save the file as UTF-8 again"))
    for name in dict.fromkeys(n for p in prompts for n in (p.category, p.attributes.get("group", ""))):
        if problem := name_problem(name):
            problems.append(Problem(f"{title}: {problem}", where, "rename the category or group"))
    return problems


def select_half(prompts: list[Prompt], half: str | None, seed: int) -> list[Prompt]:
    """Return one half of the prompts, in their order.

    Args:
        prompts: The prompts to split.
        half: `a` or `b`; None returns all prompts.
        seed: Seed of the draw. Each category is split as evenly as possible.
    """
    if half is None:
        return prompts
    taken = {
        unit
        for members in _by_category(prompts).values()
        for turn, unit in enumerate(
            sorted({_unit(p) for p in members}, key=lambda u: rank(seed, f"half {u}"))
        )
        if (turn % 2 == 0) == (half == "a")
    }
    return [p for p in prompts if _unit(p) in taken]


def _unit(prompt: Prompt) -> str:
    """Return what a draw takes or leaves as a whole: the scenario of a prompt, or else its id."""
    return prompt.attributes.get("scenario", prompt.id)


def _limited(prompts: list[Prompt], limit: int, seed: int, in_order: bool) -> list[Prompt]:
    if in_order or limit >= len(prompts):
        return prompts[:limit]
    by_category = _by_category(prompts)
    ranked = [
        (turn, place, prompt.id)
        for place, category in enumerate(sorted(by_category))
        for turn, prompt in enumerate(sorted(by_category[category], key=lambda p: rank(seed, _unit(p))))
    ]
    taken = {i for _, _, i in sorted(ranked)[:limit]}
    return [p for p in prompts if p.id in taken]


def _by_category(prompts: list[Prompt]) -> dict[str, list[Prompt]]:
    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    return by_category
