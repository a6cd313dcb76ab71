"""A local web page over the completions, scores and findings of a run."""
