"""The templates of the pages. They escape everything; in texts, control characters are spelled out."""

from __future__ import annotations

from functools import cache
from typing import Any

from unharm.report.templates import html_environment
from unharm.report.words import category_name, metric_name
from unharm.view.charts import bar, legend, line_chart
from unharm.view.numbers import score, signed
from unharm.view.profiles import verdict_words


def render(template: str, **data: Any) -> str:
    """Render a template."""
    html: str = _environment().get_template(template).render(**data)
    return html


@cache
def _environment() -> Any:
    environment = html_environment("unharm.view", "templates")
    environment.filters |= {"score": score, "signed": signed, "metric": metric_name}
    environment.filters |= {"category": category_name, "verdict": verdict_words}
    environment.globals |= {"line_chart": line_chart, "bar": bar, "legend": legend}
    environment.globals |= {"category_titles": lambda names: {name: category_name(name) for name in names}}
    return environment
