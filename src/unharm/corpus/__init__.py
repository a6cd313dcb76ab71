"""The training data: arguments, the examples of both VIM stages, and benign instruction sets."""
