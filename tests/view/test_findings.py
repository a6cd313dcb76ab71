"""The tables of the findings, and that their numbers lead to the completions behind them."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from support.view import Client
from unharm.core.errors import UserError
from unharm.runs.context import Run
from unharm.runs.shards import all_shards
from unharm.view.filters import Filter, parse_filter
from unharm.view.findings import ROWS, behind, read_table, table_names, title_of
from unharm.view.site import Site

KNOWN = {"benchmark": {"rtp", "hbr", "questionnaire"}, "category": {"age", ""}}
ROW = {
    "benchmark": "hbr", "category": "all", "metric": "negative_regard_rate", "arm": "vim", "strategy": "dual",
    "reference": "icl", "reference_strategy": "dual", "profile": None, "seed": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "changes", "column", "chosen"),
    [
        ("comparisons", {}, "value", Filter(benchmark="hbr", arm=("vim", "icl"), strategy="dual", sort="highest")),
        ("comparisons", {}, "value_reference", Filter(benchmark="hbr", arm=("icl",), strategy="dual", sort="highest")),
        ("comparisons", {"reference_strategy": "safety"}, "p", Filter(benchmark="hbr", arm=("vim", "icl"), sort="highest")),
        ("comparisons", {}, "n", Filter(benchmark="hbr", arm=("vim", "icl"), strategy="dual")),
        ("comparisons", {}, "unscored", Filter(benchmark="hbr", arm=("vim", "icl"), strategy="dual", unscored=True)),
        ("arms", {"reference": "", "metric": "incoherent_share", "category": "age"}, "value",
         Filter(benchmark="hbr", arm=("vim",), strategy="dual", category="age", incoherent=True, sort="highest")),
        ("subjects", {"reference": "", "profile": "power", "seed": 3}, "n",
         Filter(benchmark="hbr", arm=("vim",), strategy="dual", profile="power", seed=3)),
        ("alignment", {"benchmark": None, "reference": ""}, "value",
         Filter(benchmark="questionnaire", arm=("vim",), strategy="dual", sort="highest")),
        ("agreement", {"arm": "", "strategy": "", "reference": ""}, "value", Filter(benchmark="hbr", disagree=True, sort="highest")),
        ("hypotheses", {"benchmark": "xstest"}, "value", None),
    ],
)  # fmt: skip
def test_a_number_is_of_these_completions(
    table: str, changes: dict[str, object], column: str, chosen: Filter | None
) -> None:
    assert behind(table, ROW | changes, column, KNOWN) == chosen


def test_every_link_leads_to_as_many_completions_as_there_are(
    viewed_run: Run, client: Client, site: Site
) -> None:
    """The completions of each arm and benchmark, counted in the files, are those behind its numbers."""
    views, _ = site.sources[0].current()
    counts: dict[tuple[str, str], int] = {}
    for shard in all_shards(viewed_run):
        key = (shard.subject.arm, shard.benchmark)
        height = viewed_run.store.scan(shard.completions).select(pl.len()).collect().item()
        counts[key] = counts.get(key, 0) + height
    checked = 0
    table = read_table(views, "arms", Filter(category="all"))
    place = [name for name, _ in table.columns].index("n")
    for row in table.rows:
        chosen = parse_filter(parse_qs(urlsplit(row[place].link).query))
        page = client.get(row[place].link).text
        shown = re.search(r"<strong>([\d,]+)</strong> of", page)
        assert shown is not None
        assert int(shown[1].replace(",", "")) == counts[chosen.arm[0], chosen.benchmark]
        checked += 1
        if checked == 6:
            break
    assert checked == 6


def test_every_table_that_is_made_is_shown(client: Client, site: Site) -> None:
    views, _ = site.sources[0].current()
    listed = client.get("/findings").text
    for name in table_names(views):
        assert f"name={name}" in listed
        assert title_of(name) in listed
        page = client.get(f"/findings/table?name={name}")
        assert page.status == 200
        links = sorted(set(re.findall(r'href="(/prompts\?[^"]+)"', page.text)))
        for link in links[:2]:
            assert client.get(html.unescape(link)).status == 200


def test_long_tables_have_pages_and_rows_are_chosen(site: Site) -> None:
    views, _ = site.sources[0].current()
    first, last = read_table(views, "subjects", Filter()), read_table(views, "subjects", Filter(page=2))
    assert len(first.rows) == ROWS
    assert first.total > ROWS
    assert first.rows[0] != last.rows[0]
    chosen = read_table(views, "subjects", Filter(arm=("vim",), profile="power", benchmark="rtp"))
    assert 0 < chosen.total < first.total
    assert {row[0].text for row in chosen.rows} == {"vim"}


def test_tables_that_are_not_there(site: Site) -> None:
    views, _ = site.sources[0].current()
    with pytest.raises(UserError, match="did you mean 'arms'"):
        read_table(views, "arm", Filter())
    assert site.get("/findings/table", {"name": ["x; drop table marks"]}).status == 400
