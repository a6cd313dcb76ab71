"""The environment that every page is rendered in: the report, that of compared logs, and the viewer."""

from __future__ import annotations

from typing import Any

from unharm.core.printable import printable


def html_environment(package: str, folder: str) -> Any:
    """Return a jinja2 environment for the templates in a folder of a package.

    Values are escaped, control characters in texts are spelled out, and an unknown name is an error.
    """
    import jinja2
    import markupsafe

    def shown(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
        return printable(value) if plain else value

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, folder),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
