"""Charts of a report against the schema of Vega-Lite, which the report itself does not take the time for."""

from __future__ import annotations

import json
import re
from pathlib import Path


def valid_charts(page: Path) -> set[str]:
    """The names of the charts of a page; an error where one is not what the schema asks for."""
    import altair as alt

    text = page.read_text(encoding="utf-8")
    data = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)[0]
    charts = json.loads(data)
    for chart in charts.values():
        alt.Chart.from_dict(chart, validate=True)
    return set(charts)
