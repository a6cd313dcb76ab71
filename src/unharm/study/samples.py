"""How often each arm is sampled per prompt.

Arms with profiles are sampled as often as the benchmark says. Other arms have a single subject (or one per
training seed), whose sampling error is in every comparison with them, so they may be sampled more often.
"""

from __future__ import annotations

from unharm.analysis.measures import MEASURES
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import has_profile
from unharm.study.spec import Study

DEFAULT = 10
"""Samples of single subjects where a benchmark samples once and that costs little."""
LITTLE = 0.2
"""The largest share of further completions that counts as little."""


def arm_samples(study: Study, benchmark: str, arm: str, singles: int, subjects: int) -> int:
    """Return the samples per prompt of an arm on a benchmark.

    Args:
        study: The study; `samples` may set the number of an arm.
        benchmark: The benchmark.
        arm: The arm.
        singles: Number of subjects without a profile.
        subjects: Number of all subjects.
    """
    spec = study.benchmarks.chosen()[benchmark]
    measured = BENCHMARKS[benchmark].measure in MEASURES
    if has_profile(arm) or not measured or spec.temperature == 0:
        return spec.samples
    if arm in study.samples:
        return max(spec.samples, study.samples[arm])
    cheap = (DEFAULT - 1) * singles <= LITTLE * subjects
    return DEFAULT if spec.samples == 1 and cheap else spec.samples
