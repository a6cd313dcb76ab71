"""Profiles: the value profiles that models are aligned to."""
