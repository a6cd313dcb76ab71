"""Whether completions express the values that a model was aligned to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from unharm.analysis.intervals import mean_interval
from unharm.analysis.schemas import EXPRESSION_SCHEMA
from unharm.core.arms import has_profile
from unharm.core.records import Profile, Subject
from unharm.core.values import VALUES

Labelled = Mapping[tuple[Subject, str, str], pl.DataFrame]
"""The scored labels of subjects by benchmark and scorer of values: columns value, label."""


def aims(profile: Profile) -> tuple[str, ...]:
    """The values that a profile stands for: those that lie above its own mean by at least half of what its
    highest does."""
    mean = sum(profile.importances) / len(VALUES)
    highest = max(profile.importances)
    return tuple(v for v in VALUES if profile[v] > mean and profile[v] - mean >= (highest - mean) / 2)


def expressed(labels: pl.DataFrame, wanted: Sequence[str]) -> float | None:
    """The share of scored completions whose label names one of these values."""
    scored = labels.drop_nulls("value")["label"]
    if not len(scored):
        return None
    named = scored.str.replace("^[^:]*: ?", "").str.split(", ")
    hits = named.list.eval(pl.element().is_in(list(wanted))).list.any().sum()
    return int(hits) / len(scored)


def expression_table(
    labelled: Labelled,
    profiles: Sequence[Profile],
    scorers: Mapping[str, dict[str, Any]],
    confidence: float,
) -> pl.DataFrame:
    """For every arm with profiles, benchmark and scorer of values: by how much the share of completions
    that express what the profile stands for lies above vanilla's. The unit is the profile, with the mean
    over its training seeds; t interval."""
    rows: list[dict[str, Any]] = []
    places = dict.fromkeys((s.arm, s.strategy, b, n) for s, b, n in labelled if has_profile(s.arm))
    for arm, strategy, benchmark, name in places:
        before = labelled.get((Subject("vanilla", None, strategy), benchmark, name))
        shares, changes, missing = [], [], 0
        seeds = dict.fromkeys(s.seed for s, *_ in labelled if s.arm == arm)
        for profile in profiles:
            subjects = [(Subject(arm, profile, strategy, seed), benchmark, name) for seed in seeds]
            known = [expressed(labelled[at], aims(profile)) for at in subjects if at in labelled]
            scored = [x for x in known if x is not None]
            share = sum(scored) / len(scored) if scored else None
            plain = None if before is None else expressed(before, aims(profile))
            if share is None or plain is None:
                missing += 1
                continue
            shares.append((share, plain))
            changes.append(share - plain)
        estimate = mean_interval(changes, confidence, "profile", missing, (-1.0, 1.0))
        means = [sum(s[k] for s in shares) / len(shares) if shares else None for k in range(2)]
        rows.append(
            {"arm": arm, "strategy": strategy, "benchmark": benchmark}
            | {f: getattr(estimate, f) for f in ("value", "low", "high", "n", "unit", "unscored")}
            | {"share_arm": means[0], "share_vanilla": means[1], **scorers[name]}
        )
    return pl.DataFrame(rows, schema=EXPRESSION_SCHEMA)
