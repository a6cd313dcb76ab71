"""The benchmarks: one file each, from a published format to prompts."""

KINDS: tuple[str, ...] = ("rtp", "hbr", "hexphi", "beavertails", "questionnaire")
"""The names of the benchmarks, in the order in which they are reported."""
