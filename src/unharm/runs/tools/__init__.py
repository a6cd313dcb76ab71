"""Tools that work on a finished run."""
