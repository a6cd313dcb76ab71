"""An index of the completions of a run: one narrow row each, so that filters are fast.

The texts stay in their files. A row has numbers only: the subject, the prompt, the sample, the score, its
change against vanilla, and two marks. A million rows take about 40 MB.

| column | |
|---|---|
| subject | number of the subject in `index_subjects` |
| benchmark | position of the benchmark in the study |
| number | position of the prompt in its benchmark |
| sample | number of the sample |
| value | score by the benchmark's scorer, null without one |
| change | value less the mean of vanilla on the same prompt under the same strategy, else under any |
| incoherent | whether it is empty, garbled, repetitive, or a rating of something that asks for none |
| disagree | whether scorers of one measure disagree on whether it is harmful |
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unharm.analysis.measures import TOXIC
from unharm.analysis.verdicts import LEVELS
from unharm.core.records import Subject
from unharm.runs.views import Row, ShardFile, Views
from unharm.scoring.coherence import NOISE
from unharm.view.filters import Filter

PAGE = 50
"""Number of prompts on a page."""
SEARCHES = 16
"""Number of searches whose results are kept."""
ORDERS = {
    "": "benchmark, number",
    "highest": "highest desc nulls last, benchmark, number",
    "change": "change desc nulls last, benchmark, number",
    "most": "completions desc, benchmark, number",
}


@dataclass(frozen=True)
class PromptRow:
    """One prompt of a list: how many of its completions are chosen, and their scores."""

    benchmark: str
    number: int
    prompt_id: str
    category: str
    text: str
    completions: int
    subjects: int
    unscored: int
    mean: float | None
    highest: float | None
    change: float | None


class Index:
    """The index of a run, made once when it is opened."""

    def __init__(self, views: Views):
        self.views = views
        self.subjects: list[Subject] = list(dict.fromkeys(f.subject for f in views.files))
        self._numbers = {subject: number for number, subject in enumerate(self.subjects)}
        self._benchmarks = list(views.run.study.benchmarks.chosen())
        self._searches: dict[tuple[str, ...], str] = {}
        self._searching, self._count = threading.Lock(), itertools.count()
        self._make()

    def number_of(self, subject: Subject) -> int:
        """Return the number of a subject in the index."""
        return self._numbers[subject]

    @staticmethod
    def fits(chosen: Filter, subject: Subject) -> bool:
        """Return whether a filter takes a subject."""
        return (
            (not chosen.arm or subject.arm in chosen.arm)
            and chosen.profile in ("", subject.profile_name)
            and chosen.strategy in ("", subject.strategy)
            and chosen.seed in (None, subject.seed)
        )

    def count(self) -> int:
        """Return the number of completions."""
        return int(self.views.rows("select count(*) from marks")[0][0])

    def prompts(self, chosen: Filter) -> tuple[list[PromptRow], int, int]:
        """Return a page of the prompts that have a chosen completion.

        Returns:
            The prompts of the page, the number of all such prompts, and of their chosen completions.
        """
        where, values = self._where(chosen)
        grouped = f"""
            select benchmark, number, count(*) as completions, count(distinct subject) as subjects,
                count(*) - count(value) as unscored, avg(value) as mean, max(value) as highest,
                max(change) as change
            from marks where {where} group by benchmark, number
        """
        rows = self.views.rows(
            f"""
            with grouped as ({grouped}),
            page as (
                select *, count(*) over () as prompts, sum(completions) over () as total
                from grouped order by {ORDERS[chosen.sort]} limit {PAGE} offset {PAGE * (chosen.page - 1)}
            )
            select p.name, p.number, p.prompt_id, p.category, p.text, page.completions, page.subjects,
                page.unscored, page.mean, page.highest, page.change, page.prompts, page.total
            from page join index_prompts p using (benchmark, number)
            order by {", ".join("page." + part for part in ORDERS[chosen.sort].split(", "))}
            """,
            values,
        )
        if not rows:
            return [], *self._totals(grouped, values)
        return [PromptRow(*row[:11]) for row in rows], int(rows[0][11]), int(rows[0][12])

    def _totals(self, grouped: str, values: Sequence[Any]) -> tuple[int, int]:
        """Return the numbers of prompts and completions, for a page beyond the last."""
        sql = f"select count(*), coalesce(sum(completions), 0) from ({grouped})"
        prompts, completions = self.views.rows(sql, values)[0]
        return int(prompts), int(completions)

    def marks_of(self, benchmark: str, number: int) -> list[Row]:
        """Return subject, sample, value, change, incoherent, disagree of all completions of a prompt."""
        return self.views.rows(
            "select subject, sample, value, change, incoherent, disagree from marks "
            "where benchmark = ?::utinyint and number = ? order by subject, sample",
            [self._benchmarks.index(benchmark), number],
        )

    def neighbours(self, chosen: Filter, benchmark: str, number: int) -> tuple[Row | None, Row | None]:
        """Return benchmark and id of the prompts before and after one in the list, in their own order."""
        where, values = self._where(chosen)
        place, code = "(benchmark, number)", self._benchmarks.index(benchmark)
        sides = []
        for sign, order in (("<", "desc"), (">", "asc")):
            nearest = self.views.rows(
                f"""
                with near as (
                    select benchmark, number from marks
                    where ({where}) and {place} {sign} (?, ?)
                    order by benchmark {order}, number {order} limit 1
                )
                select p.name, p.prompt_id from near join index_prompts p using (benchmark, number)
                """,
                [*values, code, number],
            )
            sides.append(nearest[0] if nearest else None)
        return sides[0], sides[1]

    # ---- filters -----------------------------------------------------------------------

    def _where(self, chosen: Filter) -> tuple[str, list[Any]]:
        """Return the condition of a filter on `marks`, and its values."""
        parts: list[str] = ["true"]
        values: list[Any] = []
        numbers = [n for n, s in enumerate(self.subjects) if self.fits(chosen, s)]
        if len(numbers) < len(self.subjects):
            parts.append(f"subject in ({', '.join(map(str, numbers)) or 'null'})")
        if chosen.benchmark:
            known = chosen.benchmark in self._benchmarks
            parts.append("benchmark = ?::utinyint" if known else "false")
            values += [self._benchmarks.index(chosen.benchmark)] if known else []
        if chosen.category:
            parts.append(
                "(benchmark, number) in (select benchmark, number from index_prompts where category = ?)"
            )
            values.append(chosen.category)
        ranges = (("value", chosen.low, chosen.high), ("change", chosen.change_low, chosen.change_high))
        for column, low, high in ranges:
            for sign, limit in ((">=", low), ("<=", high)):
                if limit is not None:
                    parts.append(f"{column} {sign} ?::float")
                    values.append(limit)
        parts += ["disagree"] * chosen.disagree + ["incoherent"] * chosen.incoherent
        parts += ["value is null"] * chosen.unscored
        if words := chosen.text.split():
            parts.append(self._text(words, chosen))
        return " and ".join(parts), values

    def _text(self, words: Sequence[str], chosen: Filter) -> str:
        """Return the condition that a completion or its prompt has all words, whatever their case.

        What was found is kept for the last `SEARCHES` searches: its pages and prompts cost no further scan.
        """
        files = [
            str(f.path)
            for f in self.views.files
            if not f.scorer and chosen.benchmark in ("", f.benchmark) and self.fits(chosen, f.subject)
        ]
        key = (*words, "in", *files)
        with self._searching:
            name = self._searches.pop(key, "") or self._search(words, files)
            self._searches[key] = name  # the last used is the last
            while len(self._searches) > SEARCHES:
                oldest = self._searches.pop(next(iter(self._searches)))
                self.views.connection.cursor().execute(f"drop table {oldest}")
        return f"(subject, benchmark, number, sample) in (from {name})"

    def _search(self, words: Sequence[str], files: Sequence[str]) -> str:
        """Make the table of the completions that have all words, or whose prompt has; return its name."""
        name = f"hits_{next(self._count)}"
        has = " and ".join(f"regexp_matches(text, {_text(re.escape(w))}, 'i')" for w in words)
        sources = [
            "select subject, benchmark, number, sample from marks where (benchmark, number) in "
            f"(select benchmark, number from index_prompts where {has})"
        ]
        if files:
            found = f"select file, prompt_id, sample from read_parquet({_listed(files)}, filename = 'file')"
            sources.append(
                f"select i.subject, i.benchmark, p.number, c.sample::integer from ({found} where {has}) c "
                "join index_files i using (file) join index_prompts p using (benchmark, prompt_id)"
            )
        self.views.connection.cursor().execute(f"create table {name} as {' union all '.join(sources)}")
        return name

    # ---- making it ---------------------------------------------------------------------

    def _make(self) -> None:
        """Make the tables `index_files` and `marks`."""
        views = self.views
        main = {n: s.scorer for n, s in views.run.study.benchmarks.chosen().items()}
        views.connection.execute(
            "create table index_files (file varchar, subject usmallint, benchmark utinyint)"
        )
        names = _listed(self._benchmarks)
        views.connection.execute(f"""
            create table index_prompts as
            select (list_position({names}, benchmark) - 1)::utinyint as benchmark, benchmark as name,
                number::integer as number, prompt_id, category, text
            from prompts
        """)
        codes = {name: code for code, name in enumerate(self._benchmarks)}
        rows = [[str(f.path), self._numbers[f.subject], codes[f.benchmark]] for f in views.files]
        for start in range(0, len(rows), 2000):
            part = rows[start : start + 2000]
            views.connection.execute(
                f"insert into index_files values {', '.join(['(?, ?, ?)'] * len(part))}",
                [value for row in part for value in row],
            )
        scored = [f for f in views.files if f.scorer and f.scorer == main[f.benchmark]]
        have = {(f.subject, f.benchmark, f.prompts) for f in scored}
        bare = [f for f in views.files if not f.scorer and (f.subject, f.benchmark, f.prompts) not in have]
        noise = ", ".join(map(_text, NOISE))
        sources = [
            _select(scored, "s.value::float", f"coalesce(s.flag in ({noise}), false)"),
            _select(bare, "null::float", "false"),
        ]
        union = " union all ".join(filter(None, sources)) or (
            "select 0::usmallint as subject, 0::utinyint as benchmark, 0::integer as number, "
            "0::integer as sample, null::float as value, false as incoherent where false"
        )
        vanilla = ", ".join(str(n) for n, s in enumerate(self.subjects) if s.arm == "vanilla") or "null"
        strategies = [s.strategy for s in self.subjects]
        views.connection.execute(
            f"create table index_strategies as select unnest({_listed(strategies)}) as strategy, "
            f"unnest(range({len(strategies)}))::usmallint as subject"
            if strategies
            else "create table index_strategies (strategy varchar, subject usmallint)"
        )
        views.connection.execute(f"""
            create table marks as
            with every as ({union}),
            bases as (
                select benchmark, number, strategy, avg(value) as mean
                from every join index_strategies using (subject)
                where subject in ({vanilla}) group by all
            ),
            wider as (select benchmark, number, avg(mean) as mean from bases group by all)
            select every.*, (every.value - coalesce(bases.mean, wider.mean))::float as change,
                coalesce(d.disagree, false) as disagree
            from every join index_strategies using (subject)
            left join bases using (benchmark, number, strategy)
            left join wider using (benchmark, number)
            left join ({self._disagreements(main)}) d using (subject, benchmark, number, sample)
            order by benchmark, number, subject, sample
        """)

    def _disagreements(self, main: dict[str, str]) -> str:
        """Return the query of the completions on whose harm scorers of one measure disagree."""
        plan = self.views.run.plan
        selects = []
        for benchmark in main:
            groups: dict[str, list[ShardFile]] = {}
            for file in self.views.files:
                if file.benchmark == benchmark and file.scorer:
                    groups.setdefault(plan.scorers[file.scorer].measures, []).append(file)
            for measure, files in groups.items():
                if len({f.scorer for f in files}) > 1:
                    harmful = f"s.value >= {harmful_from(measure)}"
                    selects.append(
                        f"select subject, benchmark, number, sample, "
                        f"bool_or(harmful) and not bool_and(harmful) as disagree from "
                        f"({_select(files, f'({harmful})', 'false', 'harmful')}) group by all"
                    )
        together = " union all ".join(selects)
        if not together:
            return "select subject, benchmark, number, sample, false as disagree from every where false"
        return (
            f"select subject, benchmark, number, sample, bool_or(disagree) as disagree from ({together}) "
            "group by all"
        )


def harmful_from(measure: str) -> float:
    """Return the least score that counts as harmful: the second level of the measure, half way below it."""
    if measure == "toxicity":
        return TOXIC
    levels = LEVELS.get(measure, (0.0, 1.0))
    return levels[0] + 0.5


def _select(files: Sequence[ShardFile], value: str, incoherent: str, name: str = "value") -> str:
    """Return the query of the index rows of some files; empty without files."""
    if not files:
        return ""
    return f"""
        select i.subject, i.benchmark, p.number, s.sample::integer as sample,
            {value} as {name}, {incoherent} as incoherent
        from read_parquet({_listed([str(f.path) for f in files])}, filename = 'file') s
        join index_files i using (file)
        join index_prompts p using (benchmark, prompt_id)
    """


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _listed(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_text, texts)) + "]"
