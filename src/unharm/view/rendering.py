"""The templates of the pages. They escape everything; in texts, control characters are spelled out."""

from __future__ import annotations

from functools import cache
from typing import Any

from unharm.report.templates import html_environment
from unharm.report.words import metric_name
from unharm.view.charts import bar, line_chart
from unharm.view.numbers import score, signed


def render(template: str, **data: Any) -> str:
    """Render a template."""
    html: str = _environment().get_template(template).render(**data)
    return html


@cache
def _environment() -> Any:
    environment = html_environment("unharm.view", "templates")
    environment.filters |= {"score": score, "signed": signed, "metric": metric_name}
    environment.globals |= {"line_chart": line_chart, "bar": bar}
    return environment
