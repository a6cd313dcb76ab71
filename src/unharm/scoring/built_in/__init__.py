"""The scorers that need no settings: one file for each, with its row and its function."""
