"""The benchmarks: one file each, from a published format to prompts."""

KINDS: tuple[str, ...] = ("rtp", "hbr", "hexphi", "beavertails", "harmless", "questionnaire")
"""The names of the benchmarks, in the order in which they are reported."""

HARMLESS = "embedded"
"""As the file of `harmless`: questions of our own."""
