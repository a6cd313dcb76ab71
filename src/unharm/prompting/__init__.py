"""Prompting: every wording in one pack, and how its parts are put together for a subject."""
