"""One execution of a study: its plan, its context, its stages, and tools that work on a finished run."""
