"""Execution of a study: plan, context, stages, and tools for a finished run."""
