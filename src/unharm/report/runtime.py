"""The Vega-Lite runtime, which draws the charts of a page without a network."""

from __future__ import annotations

from functools import cache


@cache
def vega_runtime() -> str:
    """Return the Vega-Lite runtime as JavaScript that is safe inside a script element.

    It is bundled once per process, which takes about two seconds.
    """
    import vl_convert

    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # the stub lacks the default
    return bundle.replace("</script", "<\\/script").replace("\r", "")
