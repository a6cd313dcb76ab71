"""Records and helpers that every package uses. Nothing here imports the rest of unharm."""
