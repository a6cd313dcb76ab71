"""unharm: measure, explain and reduce the harms of value-aligned language models."""

__version__ = "0.1.0"
