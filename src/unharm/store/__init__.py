"""The run folder: content keys, atomic writes, locks, journals, object storage."""
