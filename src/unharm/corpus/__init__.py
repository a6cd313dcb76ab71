"""Corpus: arguments, the examples of both VIM stages, and benign instruction sets."""
