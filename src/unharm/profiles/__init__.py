"""Profiles: whom a model is aligned to."""
