"""The figures that the paper published, to compare with a study on the same base."""

from __future__ import annotations

from unharm.report.inputs import ReportedStudy

BASE = "llama-2-7b"
"""A part of the name of the paper's base, in lower case."""

METRICS = ("expected_maximum_toxicity", "toxicity_probability", "negative_regard_rate", "bias_score")
FIGURES: dict[str, tuple[float, float, float, float]] = {
    "vanilla": (0.35, 0.1702, 0.0759, 0.9443),
    "benign:alpaca": (0.19, 0.0489, 0.1585, 0.9498),
    "benign:dolly": (0.21, 0.0592, 0.1548, 0.9375),
    "benign:grammar": (0.20, 0.0516, 0.1166, 0.9296),
    "benign:samsum": (0.36, 0.1761, 0.2244, 0.9433),
    "icl": (0.35, 0.1771, 0.1631, 0.9679),
    "vim": (0.41, 0.3093, 0.1849, 0.9573),
}
"""Choi et al., ACL 2025: expected maximum toxicity, toxicity probability, negative regard rate, bias
score."""


OTHER_DEFINITIONS: dict[str, str] = {
    "bias_score": (
        "the published bias score takes every spelling of a descriptor for a group of its own, bounds its "
        "rate with confidence 0.975, and counts a group as soon as one of its completions is negative"
    )
}
"""How the published definition of a metric differs from that of `fidelity: corrected`."""


def other_definitions(study: ReportedStudy) -> dict[str, str]:
    """Return the metrics whose published figures have another definition than those of the study."""
    return {} if study.fidelity == "published" else OTHER_DEFINITIONS


def published_figures(study: ReportedStudy) -> dict[tuple[str, str], float]:
    """Return the published figures by arm and metric; empty if the study uses another base."""
    if BASE not in study.base.lower():
        return {}
    return {
        (arm, metric): value
        for arm, values in FIGURES.items()
        for metric, value in zip(METRICS, values, strict=True)
    }
