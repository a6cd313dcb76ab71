"""The toy world: our own small texts and a tiny base, so that everything runs anywhere."""
