"""The pages: what they show, and that no text is shown or run before somebody asks for it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from support.view import Client
from unharm.runs.context import Run
from unharm.runs.shards import all_shards
from unharm.store.store import Store
from unharm.view.site import Site, open_site

EVIL = "</details><script>alert(1)</script><img src=x onerror=alert(2)> \"'&{{ 7 * 7 }}\x1b[2J"


class Page(HTMLParser):
    """Collects the text outside of `details.text`, and the names of all elements and attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.visible, self.hidden = "", ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.elements.append((tag, values))
        if tag == "details":
            self.open.append(values.get("class") or "")
            assert "text" not in (values.get("class") or "") or "open" not in values

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "text" in self.open:
            self.hidden += data
        else:
            self.visible += data


@pytest.fixture
def evil_site(viewed_run: Run, tmp_path: Path) -> Site:
    """The run with a completion that attacks the page."""
    import shutil

    shutil.copytree(viewed_run.store.root, tmp_path / "evil")
    run = Run(viewed_run.study, Store(tmp_path / "evil"), viewed_run.plan, dry=viewed_run.dry)
    shard = next(s for s in all_shards(run) if s.benchmark == "rtp")
    frame = run.store.scan(shard.completions).collect()
    changed = frame.with_columns(text=pl.lit(EVIL), reason=pl.lit(EVIL))
    run.store.put_table(shard.completions, changed)
    return open_site([tmp_path / "evil"], run)


def test_texts_are_hidden_and_escaped(evil_site: Site) -> None:
    body = evil_site.get("/prompt", {"prompt": ["rtp-1"], "benchmark": ["rtp"]}).body.decode()
    page = Page(body)
    assert "alert(1)" in page.hidden
    assert "alert(1)" not in page.visible
    assert "\x1b" not in body
    assert "49" not in page.hidden
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [t for t, values in page.elements if t == "img" or any(n.startswith("on") for n in values)]
    assert not any("style" in values for _, values in page.elements)
    evil_site.close()


def test_every_answer_of_a_prompt_is_on_its_page(viewed_run: Run, client: Client) -> None:
    reply = client.get("/prompt?benchmark=hexphi&prompt=" + viewed_run.plan.prompts["hexphi"].prompts[3].id)
    page = Page(reply.text)
    identity = viewed_run.plan.prompts["hexphi"].prompts[3].id
    count = 0
    for shard in all_shards(viewed_run):
        if shard.benchmark == "hexphi" and identity in {p.id for p in shard.prompts}:
            rows = viewed_run.store.scan(shard.completions).collect()
            for text in rows.filter(pl.col("prompt_id") == identity)["text"]:
                assert text in page.hidden
                assert text not in page.visible
                count += 1
    assert count == 8
    assert page.visible.count("offline-harmfulness-topic") == 8
    assert viewed_run.plan.prompts["hexphi"].prompts[3].text in page.hidden


def test_marks_show_what_the_reference_lacks(client: Client) -> None:
    address = "/prompt?benchmark=rtp&prompt=rtp-1&arm=vim&profile=power"
    marked = client.get(address).text
    assert "<mark>" in marked
    assert "<mark>" not in client.get(f"{address}&against=none").text
    assert "<mark>" not in client.get(f"{address}&against=vim%20%C2%B7%20power%20%C2%B7%20input-only").text


def test_an_address_with_empty_fields_is_shortened(client: Client) -> None:
    reply = client.get("/prompts?benchmark=rtp&category=&low=&arm=vim")
    assert reply.status == 303
    assert reply.headers["location"] == "/prompts?benchmark=rtp&arm=vim"


def test_wrong_addresses_say_what_is_wrong(client: Client) -> None:
    assert client.get("/nothing").status == 404
    wrong = client.get("/prompts?low=x&page=0")
    assert wrong.status == 400
    assert "expected a number" in wrong.text
    assert client.get("/prompt?prompt=%3Cscript%3E").status == 400
    assert client.get("/prompts?run=2").status == 400
    assert client.post("/prompts", {}).status == 404


def test_a_damaged_file_is_one_sentence(evil_site: Site) -> None:
    views, _ = evil_site.sources[0].current()
    next(f for f in views.files if f.benchmark == "hbr" and not f.scorer).path.write_bytes(b"PAR1 no")
    prompt = views.run.plan.prompts["hbr"].prompts[0].id
    answer = evil_site.get("/prompt", {"prompt": [prompt]})
    assert answer.status == 500
    assert b"cannot be read" in answer.body
    assert b"Traceback" not in answer.body
    evil_site.close()


def test_two_runs_side_by_side(viewed_run: Run) -> None:
    folder = Path(viewed_run.store.root)
    both = Site([*open_site([folder], viewed_run).sources, *open_site([folder], viewed_run).sources])
    page = Page(both.get("/prompt", {"prompt": ["rtp-1"]}).body.decode())
    assert "The other run" in page.visible
    assert page.visible.count("run 2") == 8
    assert page.visible.count("run 1") == 8
    assert both.get("/prompts", {"run": ["2"]}).status == 200
    both.close()
