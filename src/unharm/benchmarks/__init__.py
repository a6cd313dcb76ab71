"""The benchmarks: one file for each, with its settings, its reader and its measure.

`registry.BENCHMARKS` lists them all.
"""
