"""The benchmarks: one file each, with settings, reader and the measure that its metrics are made of.

`registry.BENCHMARKS` has one row for each of them.
"""
