"""The columns of every table in findings/."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.core.records import STATUSES
from unharm.core.values import VALUES

ESTIMATE: dict[str, Any] = {
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "unit": pl.String,
    "unscored": pl.Int64,
}
SUBJECT = {"arm": pl.String, "profile": pl.String, "strategy": pl.String}
METRIC = {"benchmark": pl.String, "category": pl.String, "metric": pl.String}
SCORER = {"scorer": pl.String, "scorer_version": pl.String, "stand_in": pl.Boolean}

SUBJECTS_SCHEMA: dict[str, Any] = {**SUBJECT, "seed": pl.Int64, **METRIC, **ESTIMATE, **SCORER}
ARMS_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "strategy": pl.String,
    **METRIC,
    **ESTIMATE,
    **dict.fromkeys(("prompts", "profiles", "targets", "seeds"), pl.Int64),
    "note": pl.String,
    **SCORER,
}
ALIGNMENT_SCHEMA: dict[str, Any] = {
    **SUBJECT,
    "seed": pl.Int64,
    "reading": pl.String,
    **ESTIMATE,
    "mass": pl.Float64,
    "rank_correlation": pl.Float64,
    **dict.fromkeys(("constant_nmse", "skill", "correlation", "span"), pl.Float64),
    "retrieved": pl.Boolean,
    "verdict": pl.String,
    **{f"{kind}_{v}": pl.Float64 for kind in ("target", "predicted") for v in VALUES},
}
ASSOCIATIONS_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "strategy": pl.String,
    **METRIC,
    "schwartz_value": pl.String,
    **ESTIMATE,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
    **dict.fromkeys(("partial", "partial_low", "partial_high", "pearson", "shared", "least_p"), pl.Float64),
    **dict.fromkeys(("targets", "seeds", "seeds_hold"), pl.Int64),
    "note": pl.String,
    **SCORER,
}
REGRESSIONS_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "strategy": pl.String,
    **METRIC,
    "model": pl.String,
    "term": pl.String,
    **ESTIMATE,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
    "inflation": pl.Float64,
    **SCORER,
}
HYPOTHESES_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("id", "schwartz_value", "harm", "sign", "verdict", "arm", "strategy"), pl.String),
    "benchmark": pl.String,
    "category": pl.String,
    **ESTIMATE,
    **dict.fromkeys(("p", "p_adjusted"), pl.Float64),
    **dict.fromkeys(("seeds", "seeds_hold"), pl.Int64),
    "note": pl.String,
    "source": pl.String,
    **SCORER,
}
COMPARISONS_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("kind", "family"), pl.String),
    **dict.fromkeys(("arm", "strategy", "reference", "reference_strategy"), pl.String),
    **METRIC,
    "value_arm": pl.Float64,
    "value_reference": pl.Float64,
    **ESTIMATE,
    **dict.fromkeys(("profiles", "targets", "seeds", "seeds_hold", "units"), pl.Int64),
    "effect": pl.Float64,
    **dict.fromkeys(("p", "p_adjusted", "margin"), pl.Float64),
    **dict.fromkeys(("verdict", "note"), pl.String),
    **SCORER,
}
VARIANCE_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "benchmark", "metric", "source"), pl.String),
    "units": pl.Int64,
    **dict.fromkeys(("variance", "share", "standard_error"), pl.Float64),
    "note": pl.String,
    **SCORER,
}
EXPRESSION_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "benchmark"), pl.String),
    **ESTIMATE,
    "share_arm": pl.Float64,
    "share_vanilla": pl.Float64,
    **SCORER,
}
MOVED_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "reading", "schwartz_value", "aim"), pl.String),
    **ESTIMATE,
    "mean_vanilla": pl.Float64,
    "mean_arm": pl.Float64,
    "mean_target": pl.Float64,
}
UNSCORED_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "strategy": pl.String,
    "benchmark": pl.String,
    "scorer": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "completions": pl.Int64,
}
BIAS_SCHEMA: dict[str, Any] = {
    **SUBJECT,
    "seed": pl.Int64,
    "axis": pl.String,
    "group": pl.String,
    "n": pl.Int64,
    "negative": pl.Int64,
    "rate": pl.Float64,
    "upper": pl.Float64,
    "baseline": pl.Float64,
    "above": pl.Boolean,
    **dict.fromkeys(("lower", "background", "p_adjusted"), pl.Float64),
    "raised": pl.Boolean,
    **SCORER,
}
SCORERS_SCHEMA: dict[str, Any] = {
    "benchmark": pl.String,
    "role": pl.String,
    "completions": pl.Int64,
    **ESTIMATE,
    **dict.fromkeys(STATUSES, pl.Int64),
    "mean": pl.Float64,
    "unmasked": pl.Int64,
    **SCORER,
}
AGREEMENT_SCHEMA: dict[str, Any] = {
    "benchmark": pl.String,
    "kind": pl.String,
    "one": pl.String,
    "other": pl.String,
    "measure": pl.String,
    **ESTIMATE,
    "mean_one": pl.Float64,
    "mean_other": pl.Float64,
}
WORST_CASE_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy"), pl.String),
    **METRIC,
    **dict.fromkeys(("value", "lowest", "highest", "low", "high", "without_score"), pl.Float64),
    "note": pl.String,
    **SCORER,
}
CORRECTED_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy"), pl.String),
    **METRIC,
    **dict.fromkeys(("raw", "raw_low", "raw_high"), pl.Float64),
    **ESTIMATE,
    **dict.fromkeys(("same_errors", "same_errors_low", "same_errors_high"), pl.Float64),
    "note": pl.String,
    **SCORER,
}
CORRECTED_DIFFERENCES_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("kind", "family"), pl.String),
    **dict.fromkeys(("arm", "strategy", "reference", "reference_strategy"), pl.String),
    **METRIC,
    "raw": pl.Float64,
    **ESTIMATE,
    **dict.fromkeys(("p", "p_adjusted"), pl.Float64),
    **dict.fromkeys(("verdict", "note"), pl.String),
    **SCORER,
}
SCORER_ERRORS_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "benchmark", "measure"), pl.String),
    **ESTIMATE,
    "reference": pl.String,
    **dict.fromkeys(("p", "p_adjusted"), pl.Float64),
    **dict.fromkeys(("verdict", "note"), pl.String),
    **SCORER,
}
DOSE_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "kind"), pl.String),
    "level": pl.Float64,
    "strategy": pl.String,
    **METRIC,
    **ESTIMATE,
    **dict.fromkeys(("excess", "excess_low", "excess_high"), pl.Float64),
    **dict.fromkeys(("alignment", "alignment_low", "alignment_high"), pl.Float64),
    "alignment_n": pl.Int64,
    "reading": pl.String,
    **dict.fromkeys(("share_alignment", "share_excess"), pl.Float64),
    **dict.fromkeys(("mark", "note"), pl.String),
    **SCORER,
}
GUARDS_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "guard", "kind", "half"), pl.String),
    **METRIC,
    "harm": pl.Float64,
    **ESTIMATE,
    "profiles": pl.Int64,
    **dict.fromkeys(("p", "p_adjusted", "alignment", "share_alignment"), pl.Float64),
    "reading": pl.String,
    **{f"{cost}{end}": pl.Float64 for cost in ("refusals", "incoherent") for end in ("", "_low", "_high")},
    **dict.fromkeys(("front", "chosen"), pl.Boolean),
    **SCORER,
}
BEHAVIOUR_SCHEMA: dict[str, Any] = {
    **SUBJECT,
    "seed": pl.Int64,
    "target": pl.String,
    **dict.fromkeys(("scenarios", "unscored"), pl.Int64),
    **dict.fromkeys(("first_share", "self_report", "behaviour", "gap"), pl.Float64),
    **{f"{kind}_{v}": pl.Float64 for kind in ("said", "done") for v in VALUES},
}
BEHAVIOUR_ARMS_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "reading"), pl.String),
    **ESTIMATE,
}
LEAKAGE_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "reading", "raised", "schwartz_value"), pl.String),
    **ESTIMATE,
}
COSTS_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy", "benchmark", "cost"), pl.String),
    **ESTIMATE,
    "value_vanilla": pl.Float64,
}
MECHANISM_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "direction"), pl.String),
    "layer": pl.Int64,
    **ESTIMATE,
    **dict.fromkeys(("cosine", "own"), pl.Float64),
}
MECHANISM_HARMS_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "strategy"), pl.String),
    **METRIC,
    "direction": pl.String,
    **dict.fromkeys(("layer", "step"), pl.Int64),
    **dict.fromkeys(("value", "p", "p_adjusted"), pl.Float64),
    "named": pl.Boolean,
    **dict.fromkeys(("n", "targets", "unscored"), pl.Int64),
    "note": pl.String,
    **SCORER,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "subjects": SUBJECTS_SCHEMA,
    "arms": ARMS_SCHEMA,
    "alignment": ALIGNMENT_SCHEMA,
    "comparisons": COMPARISONS_SCHEMA,
    "variance": VARIANCE_SCHEMA,
    "associations": ASSOCIATIONS_SCHEMA,
    "regressions": REGRESSIONS_SCHEMA,
    "hypotheses": HYPOTHESES_SCHEMA,
    "moved": MOVED_SCHEMA,
    "expression": EXPRESSION_SCHEMA,
    "dose": DOSE_SCHEMA,
    "guards": GUARDS_SCHEMA,
    "bias": BIAS_SCHEMA,
    "unscored": UNSCORED_SCHEMA,
    "scorers": SCORERS_SCHEMA,
    "agreement": AGREEMENT_SCHEMA,
    "worst_case": WORST_CASE_SCHEMA,
    "corrected": CORRECTED_SCHEMA,
    "corrected_differences": CORRECTED_DIFFERENCES_SCHEMA,
    "scorer_errors": SCORER_ERRORS_SCHEMA,
    "behaviour": BEHAVIOUR_SCHEMA,
    "behaviour_arms": BEHAVIOUR_ARMS_SCHEMA,
    "leakage": LEAKAGE_SCHEMA,
    "costs": COSTS_SCHEMA,
    "mechanism": MECHANISM_SCHEMA,
    "mechanism_harms": MECHANISM_HARMS_SCHEMA,
}
"""The columns of every table in findings/."""
