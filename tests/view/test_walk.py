"""A walk through every page in Chromium: nothing fails, nothing leaves the machine, texts stay hidden.

Needs playwright and a Chromium. Faults of accessibility are looked for where `UNHARM_AXE` names the file
axe.min.js of the package axe-core.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile.browser import program
from support.sheets import write_sheet
from unharm.analysis.human_labels import read_labels
from unharm.runs.context import Run
from unharm.view.server import Server
from unharm.view.site import Site

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
PROMPT = "/prompt?benchmark=hexphi&prompt="


@pytest.fixture(scope="module")
def sheets(viewed_run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sheets")
    files = [folder / "labels-ann.csv", folder / "labels-ben.csv"]
    for file in files:
        write_sheet(viewed_run, "hexphi", file, file.stem[7:], 6)
    return files


@pytest.fixture(scope="module")
def walked(site: Site, sheets: list[Path]) -> Iterator[Server]:
    pages = Site(site.sources, sheets)
    with Server(pages.get, pages.post, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Walk:
    """A page of the browser, and what it did that it should not."""

    def __init__(self, chromium: Any, server: Server, width: int):
        self.context = chromium.new_context(viewport={"width": width, "height": 800})
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.root = f"http://127.0.0.1:{server.port}"
        self.faults: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._check)
        self.page.goto(server.address("/prompts"))

    def _check(self, request: Any) -> None:
        if not request.url.startswith(self.root):
            self.faults.append(f"a request to {request.url}")

    def go(self, path: str) -> None:
        """Open a page, which must fit the width of the window."""
        self.page.goto(self.root + path)
        assert self.value("document.documentElement.scrollWidth <= innerWidth"), path

    def value(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def shown(self) -> int:
        """How many texts are shown."""
        count: int = self.value(
            "[...document.querySelectorAll('.said')].filter(e => e.checkVisibility()).length"
        )
        return count

    def close(self) -> None:
        self.context.close()
        assert self.faults == []


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_every_page_at_every_width(chromium: Any, walked: Server, viewed_run: Run, width: int) -> None:
    walk = Walk(chromium, walked, width)
    identity = viewed_run.plan.prompts["hexphi"].prompts[0].id
    for path in (
        "/prompts?arm=vim&sort=change", PROMPT + identity, "/findings", "/findings/table?name=comparisons",
        "/findings/table?name=subjects&page=2", "/profiles", "/profile?name=power", "/training", "/label",
        "/label/sheet?sheet=0", "/label/sheet?sheet=1&blind=0",
    ):  # fmt: skip
        walk.go(path)
        assert walk.shown() == 0, path
        assert walk.value("document.querySelector('h1').textContent").strip()
    walk.close()


def test_texts_are_shown_one_by_one_or_by_the_switch(
    chromium: Any, walked: Server, viewed_run: Run
) -> None:
    walk = Walk(chromium, walked, 1280)
    walk.go(PROMPT + viewed_run.plan.prompts["hexphi"].prompts[0].id)
    walk.page.locator("details.text > summary").first.click()
    assert walk.shown() == 1
    walk.page.locator("#reveal").click()
    assert walk.shown() == walk.value("document.querySelectorAll('details.text').length") == 9
    walk.page.keyboard.press("j")  # the next prompt, in the same tab
    walk.page.wait_for_url("**" + viewed_run.plan.prompts["hexphi"].prompts[1].id + "*")
    assert walk.shown() == 9
    walk.page.keyboard.press("s")
    assert walk.shown() == 0
    walk.page.keyboard.press("k")
    walk.page.wait_for_url("**" + viewed_run.plan.prompts["hexphi"].prompts[0].id + "*")
    assert walk.shown() == 0
    walk.close()


def test_filters_by_keyboard_and_links_that_stay(chromium: Any, walked: Server) -> None:
    walk = Walk(chromium, walked, 800)
    walk.page.keyboard.press("/")
    walk.page.keyboard.type("js")  # letters that are keys elsewhere
    assert walk.value("document.getElementById('search').value") == "js"
    walk.page.locator("#search").fill("")
    walk.page.get_by_label("benchmark").select_option("rtp")
    walk.page.get_by_label("least score").fill("0.25")
    walk.page.get_by_label("vim", exact=True).check()
    walk.page.get_by_role("button", name="Choose").click()
    walk.page.wait_for_url("**/prompts?*")
    fields = walk.value("location.search").removeprefix("?").split("&")
    assert sorted(fields) == ["arm=vim", "benchmark=rtp", "low=0.25"]  # empty fields are left out
    count = walk.page.get_by_role("status").inner_text()
    walk.go("/prompts?benchmark=rtp&low=0.25&arm=vim")
    assert walk.page.get_by_role("status").inner_text() == count
    walk.page.keyboard.press("j")
    assert walk.value("document.activeElement.className") == "step"
    walk.page.keyboard.press("Enter")
    walk.page.wait_for_url("**/prompt?*")
    walk.close()


def test_a_number_leads_to_its_completions(chromium: Any, walked: Server) -> None:
    walk = Walk(chromium, walked, 1280)
    walk.go("/findings/table?name=comparisons&arm=vim&benchmark=rtp")
    walk.page.locator("td.n a").first.click()
    walk.page.wait_for_url("**/prompts?*")
    assert "benchmark=rtp" in walk.value("location.search")
    assert "arm=vim" in walk.value("location.search")
    assert walk.value("document.querySelectorAll('a.step').length") > 0
    walk.close()


def test_labels_are_written_by_keyboard(chromium: Any, walked: Server, sheets: list[Path]) -> None:
    walk = Walk(chromium, walked, 390)
    walk.go("/label/sheet?sheet=0")
    for row, key in enumerate("525"):
        walk.page.locator("h1", has_text=f": {row + 1} of 6").wait_for()
        walk.page.wait_for_load_state()  # the heading shows before the script that reads keys has run
        walk.page.keyboard.press(key)
    walk.page.locator("h1", has_text=": 4 of 6").wait_for()
    walk.page.get_by_role("button", name="most harmful").click()
    walk.page.locator("h1", has_text=": 5 of 6").wait_for()
    walk.close()
    assert read_labels(sheets[:1], "harmfulness")["value"].to_list() == [5.0, 2.0, 5.0, 5.0]


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    file = Path(os.environ.get("UNHARM_AXE", ""))
    if not file.is_file():
        pytest.skip("UNHARM_AXE names no axe.min.js: npm install axe-core")
    return file.read_text(encoding="utf-8")


def serious_faults(page: Any, axe: str) -> list[Any]:
    """Open everything on a page and return its serious and critical faults of accessibility."""
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true })")
    page.evaluate(axe)
    faults = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes[0].html]))")
    return [fault for fault in faults if fault[1] in ("serious", "critical")]


def test_axe_finds_nothing_serious(chromium: Any, walked: Server, viewed_run: Run, axe: str) -> None:
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(walked.address("/prompts"))
        identity = viewed_run.plan.prompts["hexphi"].prompts[0].id
        for path in ("/prompts", PROMPT + identity, "/findings/table?name=arms", "/profile?name=power", "/training",
                     "/label", "/label/sheet?sheet=1", "/profiles", "/nothing"):  # fmt: skip
            page.goto(f"http://127.0.0.1:{walked.port}{path}")
            assert serious_faults(page, axe) == [], (path, scheme)
        context.close()


@pytest.fixture(scope="module")
def report(viewed_run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of the run."""
    from unharm.report.page import render
    from unharm.runs.stages.report import report_inputs

    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(report_inputs(viewed_run)), encoding="utf-8")
    return file.as_uri()


def test_axe_finds_nothing_serious_in_the_report(chromium: Any, report: str, axe: str) -> None:
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(report)
        page.locator("[data-chart] svg").first.wait_for()
        assert serious_faults(page, axe) == [], scheme
        context.close()


def test_tables_of_the_report_fit(chromium: Any, report: str) -> None:
    """No table of the report is cut off or scrolls at 1,180 px, nor on A4 between its margins (703 px)."""
    page = chromium.new_page(viewport={"width": 1180, "height": 800})
    page.goto(report)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    wide = "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 1).length"
    assert page.evaluate("document.querySelectorAll('.scroll table').length") > 8
    assert page.evaluate(wide) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1180
    assert page.locator("h2").first.inner_text() == "What was done"
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 703, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    page.close()
