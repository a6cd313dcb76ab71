"""Estimates before a run: sizes, services, hardware, statistical power, dry runs."""
