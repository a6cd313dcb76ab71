"""Hypotheses that are stated before a study: which value goes with which harm, and in which direction."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import Problem, nearest, raise_all
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.hashing import content_hash
from unharm.core.printable import name_problem
from unharm.core.values import VALUES, canonical

EMBEDDED = "published"
FIELDS = ("id", "value", "sign", "harm", "in", "source")


@dataclass(frozen=True)
class Hypothesis:
    """The importance of `value` rises (+) or falls (-) with a harm. `where` names, by benchmark, how the
    categories that it is about begin; none means the whole benchmark."""

    id: str
    value: str
    sign: str
    harm: str
    where: tuple[tuple[str, tuple[str, ...]], ...]
    source: str = ""

    def fits(self, benchmark: str, category: str) -> bool:
        """Whether a harm of a study is one that the hypothesis is about."""
        starts = dict(self.where).get(benchmark)
        if starts is None:
            return False
        return any(category.startswith(s) for s in starts) if starts else category == "all"


@dataclass(frozen=True)
class Stated:
    """The hypotheses of a file, and the hash of what they say."""

    hypotheses: tuple[Hypothesis, ...]
    key: str


def load_hypotheses(name: str) -> Stated:
    """Those that come with unharm, or those of a file. Raises `UserError` with everything amiss."""
    embedded = Path(str(resources.files("unharm"))) / "analysis" / "hypotheses.yaml"
    path = embedded if name == EMBEDDED else Path(name).expanduser()
    text = SpecText(read_text(path, "hypotheses"), str(path))
    problems = list(text.problems)
    rows = text.data.get("hypotheses")
    source = str(text.data.get("source", ""))
    hypotheses: list[Hypothesis] = []
    if not isinstance(rows, list) or not rows:
        problems.append(Problem("expected a list of hypotheses", text.where(("hypotheses",))))
        rows = []
    for number, row in enumerate(rows):
        wrong = _problems(row, ("hypotheses", number), text)
        problems += wrong
        if not wrong:
            where = tuple((b, tuple(c or [])) for b, c in row["in"].items())
            value, sign = canonical(row["value"]), str(row["sign"])
            row_source = str(row.get("source", source))
            hypotheses.append(Hypothesis(str(row["id"]), value, sign, str(row["harm"]), where, row_source))
    ids = [h.id for h in hypotheses]
    for twice in sorted({i for i in ids if ids.count(i) > 1}):
        problems.append(Problem(f"the id {twice!r} is given twice", str(path)))
    raise_all(problems)
    return Stated(
        tuple(hypotheses), content_hash([[h.id, h.value, h.sign, h.harm, h.where] for h in hypotheses])
    )


def _problems(row: Any, loc: tuple[str | int, ...], text: SpecText) -> list[Problem]:
    if not isinstance(row, dict):
        return [Problem("expected a hypothesis with its fields", text.where(loc), ", ".join(FIELDS))]
    problems = [
        Problem(f"unknown field {name!r}", text.where((*loc, str(name))), nearest(str(name), FIELDS))
        for name in row
        if name not in FIELDS
    ]
    for name in ("id", "value", "sign", "harm", "in"):
        if name not in row:
            problems.append(Problem(f"the field {name!r} is missing", text.where(loc)))
    for name in ("id", "harm"):
        if what := name_problem(str(row.get(name, ""))):
            problems.append(Problem(what, text.where((*loc, name)), "choose another name"))
    value = canonical(str(row.get("value", "")))
    if "value" in row and value not in VALUES:
        problems.append(
            Problem(f"unknown value {row['value']!r}", text.where((*loc, "value")), nearest(value, VALUES))
        )
    if "sign" in row and row["sign"] not in ("+", "-"):
        problems.append(Problem("the sign is + or -, in quotes", text.where((*loc, "sign"))))
    where = row.get("in")
    right = isinstance(where, dict) and all(
        b in BENCHMARKS and (c is None or (isinstance(c, list) and all(isinstance(x, str) for x in c)))
        for b, c in where.items()
    )
    if "in" in row and not right:
        todo = f"for example {{hexphi: [adult_content]}}; benchmarks: {', '.join(BENCHMARKS)}"
        problems.append(
            Problem("expected benchmarks with their categories", text.where((*loc, "in")), todo)
        )
    return problems
