"""What the server of `support.commands` does once, before it forks: the slow part of every report."""

from unharm.report.runtime import vega_runtime

vega_runtime()
