"""The toy world: small texts of our own and a tiny base, so that a study runs on any machine."""
