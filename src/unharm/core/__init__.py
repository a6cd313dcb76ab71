"""The vocabulary and what every package uses; nothing here imports the rest of unharm."""
