"""The page lets nothing run but its own scripts, and draws its charts all the same."""

from __future__ import annotations

from pathlib import Path

from hostile.browser import browser, page_of
from unharm.report.page import inline_json, page_script, policy_for
from unharm.report.runtime import vega_runtime

SPEC = {
    "data": {"values": [{"a": 1, "b": 2}, {"a": 2, "b": 3}]},
    "transform": [{"calculate": "datum.b * 2", "as": "c"}],
    "mark": "point",
    "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "c", "type": "quantitative"}},
}

ATTACKS = """
<img src=x onerror="window.ran = 1"><p id=hover onmouseover="window.ran = 2" onclick="window.ran = 3">over me</p>
<input id=field autofocus onfocus="window.ran = 4" onkeydown="window.ran = 5">
<script>window.ran = 6</script><script src="http://127.0.0.1:9/x.js"></script>
<iframe srcdoc="<script>parent.ran = 7</script>"></iframe><svg onload="window.ran = 8"></svg>
<a id=link href="javascript:window.ran=9">go</a><form action="http://127.0.0.1:9/"><button id=send>send</button></form>
<link rel=stylesheet href="http://127.0.0.1:9/x.css"><img src="http://127.0.0.1:9/x.png">
"""


def page(attacks: str) -> str:
    """A page as the report is built, with text in it that was not escaped."""
    runtime, script = vega_runtime(), page_script()
    policy = policy_for(runtime, script).replace("'", "&#39;")
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"></head><body>{attacks}<div data-chart="one"></div>'
        f"<div><table class=sortable><thead><tr><th>n</th></tr></thead><tbody><tr><td>2</td></tr>"
        f"<tr><td>1</td></tr></tbody></table></div><script>{runtime}</script>"
        f'<script type="application/json" id="charts">{inline_json({"one": SPEC})}</script>'
        f"<script>{script}</script></body></html>"
    )


def test_nothing_that_is_injected_runs_and_charts_are_drawn(tmp_path: Path) -> None:
    """Even where escaping failed: handlers, scripts, frames, links and pictures of others do nothing."""
    file = tmp_path / "page.html"
    file.write_text(page(ATTACKS), encoding="utf-8")
    with browser() as chromium:
        chromium.open(page_of(file))
        for name in ("hover", "field", "link", "send"):
            place = chromium.middle(f"#{name}")
            chromium.move(*place, click=True)
            chromium.press("Tab")
            chromium.press("Enter")
        assert chromium.value("window.ran ?? 0") == 0
        assert chromium.value("document.querySelectorAll('[data-chart] svg .mark-symbol path').length") == 2
        chromium.move(*chromium.middle("th"), click=True)
        assert chromium.value("document.querySelector('td').textContent") == "1"
        assert chromium.requests() == [page_of(file)]
        assert not chromium.dialogs()


def test_the_same_attacks_do_run_without_the_policy(tmp_path: Path) -> None:
    """So the test above can fail."""
    file = tmp_path / "page.html"
    file.write_text(page(ATTACKS).replace("Content-Security-Policy", "nothing"), encoding="utf-8")
    with browser() as chromium:
        chromium.open(page_of(file))
        assert chromium.value("window.ran ?? 0") > 0
