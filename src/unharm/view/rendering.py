"""The templates of the pages. They escape everything; in texts, control characters are spelled out."""

from __future__ import annotations

from functools import cache
from typing import Any

from unharm.core.printable import printable
from unharm.report.words import metric_name
from unharm.view.charts import bar, line_chart
from unharm.view.numbers import score, signed


def render(template: str, **data: Any) -> str:
    """Render a template."""
    html: str = _environment().get_template(template).render(**data)
    return html


@cache
def _environment() -> Any:
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
    environment.filters |= {"score": score, "signed": signed, "metric": metric_name}
    environment.globals |= {"line_chart": line_chart, "bar": bar}
    return environment
