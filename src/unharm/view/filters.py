"""What a reader chose to see: read from the query of an address, and written as one that stays valid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from unharm.core.errors import Problem, nearest, raise_all

SORTS = {
    "": "in their order",
    "highest": "highest score first",
    "change": "largest increase first",
    "most": "most completions first",
}
"""Orders of a list of prompts, by their name in an address."""


@dataclass(frozen=True)
class Filter:
    """Which completions a page shows. Empty fields choose everything.

    Attributes:
        run: Number of the run, from 1.
        benchmark: The benchmark.
        category: The category of prompts.
        arm: The arms.
        profile: The profile.
        strategy: The strategy.
        seed: The training seed.
        low: The least score of the benchmark's scorer.
        high: The largest score.
        change_low: The least change of the score against the mean of vanilla on the same prompt.
        change_high: The largest change.
        disagree: Only completions on whose harm scorers of the same measure disagree.
        unscored: Only completions without a score.
        incoherent: Only completions that are empty, garbled or repetitive.
        text: Words that the completion or its prompt has, all of them.
        sort: One of `SORTS`.
        page: Number of the page, from 1.
        prompt: The id of the prompt that is shown.
    """

    run: int = 1
    benchmark: str = ""
    category: str = ""
    arm: tuple[str, ...] = ()
    profile: str = ""
    strategy: str = ""
    seed: int | None = None
    low: float | None = None
    high: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    disagree: bool = False
    unscored: bool = False
    incoherent: bool = False
    text: str = ""
    sort: str = ""
    page: int = 1
    prompt: str = ""

    def query(self, **changes: Any) -> str:
        """Return the filter as the query of an address, with some fields changed."""
        changed = replace(self, **changes)
        pairs: list[tuple[str, str]] = []
        for item in fields(Filter):
            value = getattr(changed, item.name)
            if value == item.default:
                continue
            if isinstance(value, tuple):
                pairs += [(item.name, part) for part in value]
            else:
                pairs.append((item.name, _written(value)))
        return urlencode(pairs)

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves any completion out."""
        whole = Filter(run=self.run, sort=self.sort, page=self.page, prompt=self.prompt)
        return self != whole


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_filter(query: Mapping[str, Sequence[str]]) -> Filter:
    """Read a filter from the query of an address, as `urllib.parse.parse_qs` gives it.

    Unknown fields are ignored, so that an address of a later version still shows something.

    Raises:
        UserError: With every field that is wrong.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for item in fields(Filter):
        given = [text for text in query.get(item.name, ()) if text.strip()]
        if not given:
            continue
        try:
            values[item.name] = _read(str(item.type), given)
        except ValueError:
            problems.append(Problem(f"{given[-1]!r} is no number", item.name, "expected a number"))
    if values.get("sort", "") not in SORTS:
        problems.append(
            Problem(
                f"no order {values['sort']!r}", "sort", nearest(values["sort"], tuple(filter(None, SORTS)))
            )
        )
    for name in ("run", "page"):
        if values.get(name, 1) < 1:
            problems.append(Problem(f"{values[name]} is too small", name, "pages and runs count from 1"))
    raise_all(problems)
    return Filter(**values)


def _read(kind: str, given: Sequence[str]) -> Any:
    """Return a field from its texts. Raise `ValueError` for what is no number."""
    last = given[-1].strip()
    if kind.startswith("tuple"):
        return tuple(dict.fromkeys(given))
    if kind.startswith("bool"):
        return last not in ("0", "false", "no")
    if kind.startswith("int"):
        if len(last) > 9:
            raise ValueError("too long")
        return int(last)
    if kind.startswith("float"):
        number = float(last)
        if not math.isfinite(number):
            raise ValueError("no finite number")
        return number
    return given[-1]
