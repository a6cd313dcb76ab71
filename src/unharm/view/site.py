"""The pages of the viewer: an address is read, its data are collected, a template shows them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.core.values import VALUES
from unharm.runs.context import Run
from unharm.runs.status import status_text
from unharm.runs.views import Views
from unharm.view.answer import Answer, Query, redirect
from unharm.view.choices import check_names, choices
from unharm.view.filters import SORTS, Filter, parse_filter
from unharm.view.findings import read_table, table_names, title_of
from unharm.view.index import PAGE, Index
from unharm.view.labels import open_sheet, options, save_label, sheet_files, who_and_scores
from unharm.view.profiles import profile_page, rows_of_values, verdicts
from unharm.view.prompts import CARDS, Card, find_prompt, other_cards, show_prompt
from unharm.view.rendering import render
from unharm.view.source import Source
from unharm.view.training import DRAWN, charts_of, status_of, training_of

STATIC = {"/view.css": "text/css", "/view.js": "text/javascript"}


class Site:
    """All pages over one run or two.

    Args:
        sources: The runs.
        sheets: Sheets of labels besides those that the studies name.
    """

    def __init__(self, sources: Sequence[Source], sheets: Sequence[Path] = ()):
        self.sources = list(sources)
        self._sheets = list(sheets)
        self._pages: dict[str, Callable[[Query], Answer]] = {
            "/": lambda query: redirect("/prompts"),
            "/prompts": self.prompts,
            "/prompt": self.prompt,
            "/findings": self.findings,
            "/findings/table": self.table,
            "/profiles": self.profiles,
            "/profile": self.profile,
            "/label": self.label,
            "/label/sheet": self.sheet,
            "/training": self.training,
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
        """Answer a request that changes something: only labels do."""
        if path != "/label/save":
            return _reply({"problem": "There is no such page."}, HTTPStatus.NOT_FOUND)
        try:
            return _reply(self._save(body))
        except UserError as error:
            return _reply({"problem": str(error)}, HTTPStatus.BAD_REQUEST)
        except (OSError, TimeoutError) as error:
            return _reply(
                {"problem": f"the label is not stored: {error}"}, HTTPStatus.INTERNAL_SERVER_ERROR
            )

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
        check_names(chosen, views, index)
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
                changed = replace(chosen, benchmark=benchmark, run=place, page=1)
                others += other_cards(*source.current(), changed, shown)
        whole = replace(chosen, prompt="", page=1)
        before, after = index.neighbours(whole, benchmark, number)
        pages = max(1, -(-shown.subjects // CARDS))
        return self.page(
            "prompt.html.j2", "prompts", chosen,
            shown=shown, others=others, before=before, after=after, pages=pages,
            reference=reference.label if reference else "", against=against,
            references=[s.label for s in index.subjects][:400], back=whole,
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

    # ---- findings ----------------------------------------------------------------------

    def findings(self, query: Query) -> Answer:
        """The list of tables."""
        chosen = parse_filter(query)
        source = self._source(chosen)
        views, _ = source.current()
        current = status_of(str(source.folder))
        counted = {n: views.rows(f'select count(*) from "{n}"')[0][0] for n in table_names(views)}
        return self.page(
            "findings.html.j2", "findings", chosen,
            tables=counted, title_of=title_of, goes_on=current is not None and current.state == "running",
        )  # fmt: skip

    def table(self, query: Query) -> Answer:
        """A page of a table, its numbers linked to the completions behind them."""
        chosen = parse_filter(query)
        if any(not text.strip() for texts in query.values() for text in texts):
            name = urlencode({"name": query.get("name", [""])[-1]})
            return redirect(f"/findings/table?{name}&{chosen.query()}")
        views, index = self._source(chosen).current()
        table = read_table(views, query.get("name", [""])[-1], chosen)
        return self.page(
            "table.html.j2", "findings", chosen,
            table=table, heading=title_of(table.name), choices=choices(views, index, chosen),
        )  # fmt: skip

    # ---- profiles and training ---------------------------------------------------------

    def profiles(self, query: Query) -> Answer:
        """The list of profiles."""
        chosen = parse_filter(query)
        views, _ = self._source(chosen).current()
        return self.page(
            "profiles.html.j2", "profiles", chosen,
            profiles=views.run.plan.profiles, verdicts=verdicts(views), values=VALUES,
        )  # fmt: skip

    def profile(self, query: Query) -> Answer:
        """One profile."""
        chosen = parse_filter(query)
        views, _ = self._source(chosen).current()
        page = profile_page(views, query.get("name", [""])[-1], chosen.run)
        return self.page(
            "profile.html.j2", "profiles", chosen,
            shown=page, rows=rows_of_values(page), charts_of=charts_of,
        )  # fmt: skip

    def training(self, query: Query) -> Answer:
        """Losses and progress; with `part` only what changes while a run goes on."""
        chosen = parse_filter(query)
        source = self._source(chosen)
        views, _ = source.current()
        current = status_of(str(source.folder))
        template = "live.html.j2" if query.get("part") else "training.html.j2"
        return self.page(
            template, "training", chosen,
            current=current, groups=training_of(views.run, current), charts_of=charts_of,
            text=status_text(current) if current else "", drawn=DRAWN,
        )  # fmt: skip

    # ---- labels ------------------------------------------------------------------------

    def label(self, query: Query) -> Answer:
        """The list of sheets."""
        chosen = parse_filter(query)
        views, _ = self._source(chosen).current()
        sheets, problems = [], []
        for number, path in enumerate(sheet_files(views, self._sheets)):
            try:
                sheets.append((number, open_sheet(views, path)))
            except UserError as error:
                problems.append(str(error))
        return self.page("label.html.j2", "label", chosen, sheets=sheets, problems=problems)

    def sheet(self, query: Query) -> Answer:
        """One completion of a sheet, to label. Without a row: the first without a label."""
        chosen = parse_filter(query)
        views, _ = self._source(chosen).current()
        number, blind = _number(query, "sheet"), query.get("blind", ["1"])[-1] != "0"
        sheet = open_sheet(views, self._sheet(views, number))
        place = _number(query, "row") if "row" in query else sheet.next_open(0) or 0
        if place >= len(sheet.rows):
            raise UserError(f"this sheet has {len(sheet.rows)} rows", "row")
        row = sheet.rows[place]
        subject, scores = (None, {}) if blind else who_and_scores(views, sheet, row.identity)
        return self.page(
            "sheet.html.j2", "label", chosen,
            sheet=sheet, number=number, place=place, row=row, blind=blind, subject=subject, scores=scores,
            options=options(sheet.measure), following=sheet.next_open(place + 1),
        )  # fmt: skip

    def _sheet(self, views: Views, number: int) -> Path:
        files = sheet_files(views, self._sheets)
        if number >= len(files):
            raise UserError("there is no such sheet", "sheet", f"there are {len(files)}")
        return files[number]

    def _save(self, body: bytes) -> dict[str, Any]:
        """Store one label; see `save_label`."""
        try:
            data = json.loads(body)
            run, number = int(data.get("run", 1)), int(data["sheet"])
            identity, value = str(data["id"]), str(data["value"]).strip()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError("this is no label", todo="expected sheet, id and value") from None
        if number < 0 or run < 1:
            raise UserError("there is no such sheet", "sheet")
        views, _ = self._source(Filter(run=run)).current()
        path = self._sheet(views, number)
        sheet = open_sheet(views, path)
        return {"labelled": save_label(path, sheet.measure, identity, value), "of": len(sheet.rows)}

    # ---- shared ------------------------------------------------------------------------

    def _source(self, chosen: Filter) -> Source:
        if chosen.run > len(self.sources):
            raise UserError(f"there is no run {chosen.run}", "run", f"there are {len(self.sources)}")
        return self.sources[chosen.run - 1]

    def page(self, template: str, section: str, chosen: Filter | None = None, **data: Any) -> Answer:
        """Render a page."""
        html = render(
            template,
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


def open_site(folders: Sequence[Path], run: Run | None = None, sheets: Sequence[Path] = ()) -> Site:
    """Open the viewer of one run or two.

    Args:
        folders: The run folders.
        run: The first run where it is open already.
        sheets: Sheets of labels besides those that the studies name.

    Raises:
        UserError: A folder is no run, or DuckDB is not installed.
    """
    sources = [Source(folder, run if place == 0 else None) for place, folder in enumerate(folders)]
    return Site(sources, sheets)


def _number(query: Query, name: str) -> int:
    """Return a number of an address. Raise `UserError` for what is none."""
    given = query.get(name, [""])[-1]
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise UserError(f"{given!r} is no number", name)
    return int(given)


def _reply(data: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(data).encode(), status, "application/json")


def _reading_errors() -> tuple[type[Exception], ...]:
    """Return what a file that is gone or damaged raises."""
    import duckdb

    return OSError, duckdb.Error
