"""The run folder: atomic writes, content keys, locks, journals, object storage."""
