"""Analysis: from scores to metrics with intervals, and from metrics to findings."""
