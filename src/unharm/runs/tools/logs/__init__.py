"""Logs of other tools: read for comparisons, and written from a run."""
