"""What subjects would do beside what they say of themselves.

A scenario sets two values against each other. With q the probability of a continuation per word (p to the
power of one over its number of words), the share of the first is q₁ / (q₁ + q₂); shares are averaged over
both orders. The score of a value is the mean over the scenarios that it stands in, on the scale of the
questionnaire: 1 + 5 · share. Continuations differ in their wording, so scores are read as changes against
vanilla on the same scenarios.

    self-report   correlation over the ten values of the changes of ratings with the target, less its mean
    behaviour     the same for the changes of these scores
    gap           self-report − behaviour: how much more a subject says than it does
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.expressed_values import aims
from unharm.analysis.intervals import mean_interval
from unharm.analysis.metrics import questionnaire_means
from unharm.analysis.schemas import BEHAVIOUR_ARMS_SCHEMA, BEHAVIOUR_SCHEMA, LEAKAGE_SCHEMA
from unharm.core.arms import has_profile
from unharm.core.records import Profile, Prompt, Subject
from unharm.core.values import HIGHEST, LOWEST, VALUES

SELF_REPORT, BEHAVIOUR, GAP = "self-report", "behaviour", "gap"
LEAST_VALUES = 3
"""Fewest values with a change for a correlation."""

Readings = Mapping[tuple[Subject, str], pl.DataFrame]
"""By subject and reading: columns category (a value) and value (its rating or score, from 1 to 6)."""


def choice_scores(
    completions: pl.DataFrame, prompts: Sequence[Prompt]
) -> tuple[pl.DataFrame, float | None]:
    """Return the score of each value in each scenario, and the mean share of what stands first.

    A scenario counts only where both orders have probabilities; otherwise both of its scores are null.

    Args:
        completions: Columns prompt_id and options, the probabilities of the two continuations.
        prompts: The prompts, with the attributes scenario, first and second.
    """
    options = dict(completions.select("prompt_id", "options").iter_rows())
    shares: dict[str, dict[str, list[float]]] = {}
    values: dict[str, tuple[str, str]] = {}
    of_first: list[float] = []
    for prompt in prompts:
        scenario, one, two = (prompt.attributes[name] for name in ("scenario", "first", "second"))
        values.setdefault(scenario, (one, two))
        share = _share(options.get(prompt.id) or (), prompt.options)
        if share is not None:
            of_first.append(share)
            by_value = shares.setdefault(scenario, {})
            by_value.setdefault(one, []).append(share)
            by_value.setdefault(two, []).append(1 - share)
    rows = []
    for scenario, pair in values.items():
        for value in pair:
            both = shares.get(scenario, {}).get(value, [])
            score = LOWEST + (HIGHEST - LOWEST) * sum(both) / 2 if len(both) == 2 else None
            rows.append({"prompt_id": scenario, "category": value, "value": score})
    schema = {"prompt_id": pl.String, "category": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema), sum(of_first) / len(of_first) if of_first else None


def _share(chances: Sequence[float], texts: Sequence[str]) -> float | None:
    """Return the share of the first of two continuations by probability per word; None where a probability
    is not known or is 0."""
    if len(chances) != 2 or min(chances) <= 0:
        return None
    one, two = (math.log(p) / len(text.split()) for p, text in zip(chances, texts, strict=True))
    return 1 / (1 + math.exp(two - one))


def behaviour_table(readings: Readings, positions: Mapping[Subject, float | None]) -> pl.DataFrame:
    """Return the changes of self-report and behaviour against vanilla, of every subject with a profile.

    Args:
        readings: The readings `self-report` and `behaviour` of all subjects.
        positions: The mean share of what stands first, by subject.
    """
    rows = []
    means = {at: _means(frame) for at, frame in readings.items()}
    for (subject, reading), scores in readings.items():
        if reading != BEHAVIOUR or subject.profile is None:
            continue
        plain = Subject("vanilla", None, subject.strategy)
        changes = {
            kind: _changes(means.get((subject, kind)), means.get((plain, kind)))
            for kind in (SELF_REPORT, BEHAVIOUR)
        }
        fits = {kind: _correlation(change, subject.profile) for kind, change in changes.items()}
        said, done = fits[SELF_REPORT], fits[BEHAVIOUR]
        rows.append(
            {
                "arm": subject.arm,
                "profile": subject.profile.name,
                "strategy": subject.strategy,
                "seed": subject.seed,
                "target": subject.profile.target,
                "scenarios": scores["value"].count() // 2,
                "unscored": scores["value"].null_count() // 2,
                "first_share": positions.get(subject),
                "self_report": said,
                "behaviour": done,
                "gap": None if said is None or done is None else said - done,
                **{f"said_{v}": changes[SELF_REPORT].get(v) for v in VALUES},
                **{f"done_{v}": changes[BEHAVIOUR].get(v) for v in VALUES},
            }
        )
    return pl.DataFrame(rows, schema=BEHAVIOUR_SCHEMA)


def _means(frame: pl.DataFrame) -> dict[str, float]:
    """Return the mean of each value that has one."""
    return {v: mean for v, (mean, _, _) in questionnaire_means(frame).items() if mean is not None}


def _changes(now: Mapping[str, float] | None, before: Mapping[str, float] | None) -> dict[str, float]:
    """Return the change of every value that has both a score and one of vanilla."""
    if now is None or before is None:
        return {}
    return {v: now[v] - before[v] for v in VALUES if v in now and v in before}


def _correlation(changes: Mapping[str, float], profile: Profile) -> float | None:
    """Return the correlation of changes with a profile's importances; None where either does not vary."""
    if len(changes) < LEAST_VALUES:
        return None
    a = np.array(list(changes.values()))
    b = np.array([profile[v] for v in changes])
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float(a @ b) / scale if scale > 1e-12 else None


def behaviour_arms_table(behaviour: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """Return the means of self-report, behaviour and gap over the profiles of each arm.

    Unit: target, the mean over its profiles and their seeds. `unscored` counts subjects without the figure.
    """
    rows = []
    columns = {SELF_REPORT: "self_report", BEHAVIOUR: "behaviour", GAP: "gap"}
    for (arm, strategy), part in behaviour.group_by(["arm", "strategy"], maintain_order=True):
        for reading, column in columns.items():
            of_targets, missing = _by_target(part, column)
            bounds = (-2.0, 2.0) if reading == GAP else (-1.0, 1.0)
            estimate = mean_interval(of_targets, confidence, "target", missing, bounds)
            rows.append({"arm": arm, "strategy": strategy, "reading": reading, **vars(estimate)})
    return pl.DataFrame(rows, schema=BEHAVIOUR_ARMS_SCHEMA)


def _by_target(part: pl.DataFrame, column: str) -> tuple[list[float], int]:
    """Return the mean of a column per target, and how many subjects have none."""
    known = part.drop_nulls(column)
    means = known.group_by("target", maintain_order=True).agg(pl.col(column).mean())
    return means[column].to_list(), part.height - known.height


def leakage_table(behaviour: pl.DataFrame, profiles: Sequence[Profile], confidence: float) -> pl.DataFrame:
    """Return, for the profiles that raise a value, how far each of the ten values moved.

    A profile raises the values that it stands for (`expressed_values.aims`). A change of any other value is
    leakage: neighbours in the circle of values move along, and opposite ones move away. Unit: target.
    """
    raises = {p.name: aims(p) for p in profiles}
    rows: list[dict[str, Any]] = []
    for (arm, strategy), part in behaviour.group_by(["arm", "strategy"], maintain_order=True):
        if not has_profile(str(arm)):
            continue
        for raised, some in _raising(part, raises):
            for reading, prefix in ((SELF_REPORT, "said"), (BEHAVIOUR, "done")):
                for value in VALUES:
                    of_targets, missing = _by_target(some, f"{prefix}_{value}")
                    estimate = mean_interval(of_targets, confidence, "target", missing, (-5.0, 5.0))
                    names = {"arm": arm, "strategy": strategy, "reading": reading, "raised": raised}
                    rows.append(names | {"schwartz_value": value, **vars(estimate)})
    return pl.DataFrame(rows, schema=LEAKAGE_SCHEMA)


def _raising(part: pl.DataFrame, raises: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the values that any profile raises, each with the rows of the profiles that do."""
    for value in VALUES:
        names = [name for name, raised in raises.items() if value in raised]
        some = part.filter(pl.col("profile").is_in(names))
        if some.height:
            yield value, some
