"""`unharm doctor`: whether this machine can run a study, and how fast."""
