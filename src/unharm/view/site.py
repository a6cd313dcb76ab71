"""The pages of the viewer: an address is read, its data are collected, a template shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.printable import printable
from unharm.core.records import Subject
from unharm.runs.context import Run
from unharm.runs.views import Views
from unharm.view.answer import Answer, Query, redirect
from unharm.view.filters import SORTS, Filter, parse_filter
from unharm.view.index import PAGE, Index
from unharm.view.numbers import score, signed
from unharm.view.prompts import CARDS, Card, find_prompt, show_prompt
from unharm.view.source import Source

STATIC = {"/view.css": "text/css", "/view.js": "text/javascript"}


class Site:
    """All pages over one run or two.

    Args:
        sources: The runs.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        self._pages: dict[str, Callable[[Query], Answer]] = {
            "/": lambda query: redirect("/prompts"),
            "/prompts": self.prompts,
            "/prompt": self.prompt,
        }

    def get(self, path: str, query: Query) -> Answer:
        """Answer a request for a page. A mistake in its address becomes a page that says what is wrong."""
        if path in STATIC:
            body = (resources.files("unharm.view") / "templates" / path[1:]).read_bytes()
            return Answer(body, kind=STATIC[path])
        if path == "/favicon.ico":
            return Answer(b"", HTTPStatus.NO_CONTENT, "text/plain")
        try:
            if path not in self._pages:
                return self._problem("There is no such page.", HTTPStatus.NOT_FOUND)
            return self._pages[path](query)
        except UserError as error:
            return self._problem(str(error), HTTPStatus.BAD_REQUEST)
        except _reading_errors():
            sentence = (
                "A file of this run cannot be read. If the run goes on, look again in a moment; "
                "otherwise run the study again, which makes damaged files anew."
            )
            return self._problem(sentence, HTTPStatus.INTERNAL_SERVER_ERROR)

    def post(self, path: str, body: bytes) -> Answer:
        """Answer a request that changes something."""
        return Answer(b"{}", HTTPStatus.NOT_FOUND, "application/json")

    def close(self) -> None:
        """Close the runs."""
        for source in self.sources:
            source.close()

    # ---- prompts -----------------------------------------------------------------------

    def prompts(self, query: Query) -> Answer:
        """The list of prompts that have a chosen completion."""
        chosen = parse_filter(query)
        if any(not text.strip() for texts in query.values() for text in texts):
            return redirect(f"/prompts?{chosen.query()}")  # a form sends its empty fields too
        views, index = self._source(chosen).current()
        _check_names(chosen, views, index)
        rows, prompts, completions = index.prompts(chosen)
        pages = max(1, -(-prompts // PAGE))
        return self.page(
            "prompts.html.j2", "prompts", chosen,
            rows=rows, prompts=prompts, completions=completions, pages=pages, whole=index.count(),
            choices=choices(views, index, chosen),
        )  # fmt: skip

    def prompt(self, query: Query) -> Answer:
        """One prompt across arms and profiles, of all runs that have it."""
        chosen = parse_filter(query)
        against = query.get("against", [""])[-1]
        views, index = self._source(chosen).current()
        benchmark, number, _, _ = find_prompt(views, chosen.benchmark, chosen.prompt)
        reference = self._reference(index, chosen, against)
        shown = show_prompt(views, index, chosen, reference)
        others: list[Card] = []
        for place, source in enumerate(self.sources, 1):
            if place != chosen.run:
                others += _other_cards(
                    source, place, chosen, benchmark, shown.text, [c.subject for c in shown.cards]
                )
        before, after = index.neighbours(_listed(chosen), benchmark, number)
        pages = max(1, -(-shown.subjects // CARDS))
        return self.page(
            "prompt.html.j2", "prompts", chosen,
            shown=shown, others=others, before=before, after=after, pages=pages,
            reference=reference.label if reference else "", against=against,
            references=[s.label for s in index.subjects][:400], back=_listed(chosen),
            title=BENCHMARKS[benchmark].title, choices=choices(views, index, chosen),
        )  # fmt: skip

    @staticmethod
    def _reference(index: Index, chosen: Filter, against: str) -> Subject | None:
        """Return the subject that answers are compared with: the one asked for, else vanilla."""
        if against == "none":
            return None
        if against:
            return next((s for s in index.subjects if s.label == against), None)
        vanilla = [s for s in index.subjects if s.arm == "vanilla"]
        same = [s for s in vanilla if chosen.strategy in ("", s.strategy)]
        return next(iter(same or vanilla), None)

    # ---- shared ------------------------------------------------------------------------

    def _source(self, chosen: Filter) -> Source:
        if chosen.run > len(self.sources):
            raise UserError(f"there is no run {chosen.run}", "run", f"there are {len(self.sources)}")
        return self.sources[chosen.run - 1]

    def page(self, template: str, section: str, chosen: Filter | None = None, **data: Any) -> Answer:
        """Render a page."""
        html = self._environment.get_template(template).render(
            section=section,
            chosen=chosen or Filter(),
            runs=[source.name for source in self.sources],
            folders=[str(source.folder) for source in self.sources],
            titles={name: row.title for name, row in BENCHMARKS.items()},
            sorts=SORTS,
            **data,
        )
        return Answer(html.encode("utf-8", "replace"))

    def _problem(self, sentence: str, status: HTTPStatus) -> Answer:
        answer = self.page("problem.html.j2", "", sentence=sentence)
        return Answer(answer.body, status)

    @cached_property
    def _environment(self) -> Any:
        """The templates. They escape everything; in texts, control characters are spelled out."""
        import jinja2
        import markupsafe

        def shown(value: Any) -> Any:
            plain = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
            return printable(value) if plain else value

        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("unharm.view", "templates"),
            autoescape=True,
            finalize=shown,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["score"] = score
        environment.filters["signed"] = signed
        return environment


def open_site(folders: Sequence[Path], run: Run | None = None) -> Site:
    """Open the viewer of one run or two; `run` is the first where it is open already.

    Raises:
        UserError: A folder is no run, or DuckDB is not installed.
    """
    return Site([Source(folder, run if place == 0 else None) for place, folder in enumerate(folders)])


def choices(views: Views, index: Index, chosen: Filter) -> dict[str, list[str]]:
    """Return what each filter can be set to."""
    categories = views.rows(
        "select distinct category from prompts where category <> '' and ? in ('', benchmark) order by 1",
        [chosen.benchmark],
    )
    unique: dict[str, list[str]] = {
        "benchmark": list(views.run.study.benchmarks.chosen()),
        "category": [str(name) for (name,) in categories],
        "arm": list(dict.fromkeys(s.arm for s in index.subjects)),
        "profile": list(dict.fromkeys(s.profile_name for s in index.subjects if s.profile)),
        "strategy": list(dict.fromkeys(s.strategy for s in index.subjects)),
        "seed": list(dict.fromkeys(str(s.seed) for s in index.subjects if s.seed is not None)),
    }
    return unique


def _check_names(chosen: Filter, views: Views, index: Index) -> None:
    """Raise `UserError` for names that the run does not have: an empty list would hide the mistake."""
    known = choices(views, index, Filter())
    given = {
        "benchmark": chosen.benchmark, "category": chosen.category, "profile": chosen.profile,
        "strategy": chosen.strategy,
    }  # fmt: skip
    problems = [
        Problem(f"this run has no {field} {name!r}", field, nearest(name, tuple(known[field][:40])))
        for field, name in [*given.items(), *(("arm", arm) for arm in chosen.arm)]
        if name and name not in known[field]
    ]
    raise_all(problems)


def _listed(chosen: Filter) -> Filter:
    """Return the filter of the list that a prompt was chosen from."""
    return replace(chosen, prompt="", page=1)


def _other_cards(
    source: Source, place: int, chosen: Filter, benchmark: str, text: str, subjects: Sequence[Subject]
) -> list[Card]:
    """Return the answers of another run to the same prompt, of the subjects that are shown."""
    views, index = source.current()
    try:
        _, _, _, same = find_prompt(views, benchmark, chosen.prompt)
    except UserError:
        return []
    if same != text:
        return []
    labels = {s.label for s in subjects}
    shown = show_prompt(views, index, replace(chosen, benchmark=benchmark, run=place, page=1))
    return [card for card in shown.cards if card.label in labels]


def _reading_errors() -> tuple[type[Exception], ...]:
    """Return what a file that is gone or damaged raises."""
    import duckdb

    return OSError, duckdb.Error
