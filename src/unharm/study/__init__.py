"""The study: its settings, parsing and checks."""
