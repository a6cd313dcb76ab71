"""Which shift of activations goes with harm: shifts along directions, and their relation to harm.

A shift is how far an adapter moves the mean activation on held-out texts along a unit direction (a value
vector, or from harmless to harmful prompts), in standard deviations of the base on these texts. Over the
profiles of an arm, shifts are related to a harm by rank correlations. One layer × direction of many is
always the largest, so p is that of the largest of all (max-type; Westfall and Young, 1993), over
arrangements that keep near copies of a target together: whole targets of equal size change places, and
profiles change places within a target.

Directions are named forward. In each step the most probable direction of every harm is tested, by Holm over
the harms. A named direction is taken out of shifts and harm, at all its layers where there are profiles
enough (Freedman and Lane, 1983), and the next step asks what is left. All of it is association: what moves
with a harm need not be its cause.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.associations import Harms
from unharm.analysis.clustered_ranks import standard_ranks
from unharm.analysis.intervals import holm, mean_interval
from unharm.analysis.schemas import MECHANISM_HARMS_SCHEMA, MECHANISM_SCHEMA
from unharm.core.records import Profile
from unharm.core.values import VALUES

Array = np.ndarray

ARRANGEMENTS = 4_999
LEAST_PROFILES = 8
MOST_NAMED = 3
"""Most directions named for one harm."""
HARM = "harm"
"""The direction from harmless to harmful prompts."""


@dataclass(frozen=True)
class Shifts:
    """The shifts of one model.

    Attributes:
        directions: Names of the directions.
        shift: In standard deviations of the base [layers, directions].
        cosine: Between the mean shift and each direction [layers, directions].
    """

    directions: tuple[str, ...]
    shift: Array
    cosine: Array


@dataclass(frozen=True)
class Step:
    """The best direction of a harm in one step.

    Attributes:
        direction: Its place.
        layer: The layer where it goes with the harm most.
        r: Rank correlation; from the second step on with what is named taken out.
        p: Of the largest of all layers and directions.
        step: Number of the step, from 1.
        p_adjusted: By Holm over the harms of the step.
        named: Whether it is named.
    """

    direction: int
    layer: int
    r: float
    p: float
    step: int
    p_adjusted: float = math.nan
    named: bool = False


def arrangements(clusters: Array, count: int, seed: int) -> Array:
    """Return random orders of profiles [count, profiles] that keep clusters together.

    Clusters of equal size change places as a whole, and profiles change places within their cluster. Where
    no two profiles share a cluster these are all orders.
    """
    draw = np.random.default_rng(seed)
    by_size: dict[int, list[Array]] = {}
    for cluster in np.unique(clusters):
        member = np.flatnonzero(clusters == cluster)
        by_size.setdefault(len(member), []).append(member)
    orders = np.empty((count, len(clusters)), dtype=int)
    for size, same in by_size.items():
        members = np.array(same)  # [clusters, size]
        sources = draw.random((count, len(same))).argsort(axis=1)
        within = draw.random((count, len(same), size)).argsort(axis=2)
        orders[:, members.ravel()] = members[sources[:, :, None], within].reshape(count, -1)
    return orders


def best_direction(
    x: Array, y: Array, orders: Array, open_to: Sequence[int]
) -> tuple[int, int, float, float]:
    """Return the direction that goes with a harm most.

    Args:
        x: Shifts with mean 0 [profiles, layers, directions].
        y: The harm with mean 0 [profiles].
        orders: Arrangements of the profiles [count, profiles].
        open_to: The directions that may be named.

    Returns:
        Direction, layer, correlation, and p of the largest of all.
    """
    columns = x[:, :, list(open_to)].reshape(len(y), -1)
    scale = np.sqrt((columns**2).sum(axis=0))
    columns = np.where(scale > 1e-9, columns / np.where(scale > 1e-9, scale, 1.0), 0.0)
    unit = y / max(float(np.sqrt((y**2).sum())), 1e-12)
    r = unit @ columns
    place = int(np.abs(r).argmax())
    largest = np.abs(unit[orders] @ columns).max(axis=1)
    p = (1 + int((largest >= abs(r[place]) - 1e-9).sum())) / (1 + len(orders))
    layer, direction = divmod(place, len(open_to))
    return open_to[direction], layer, float(r[place]), p


def name_directions(x: Array, y: Array, clusters: Array, level: float, seed: int) -> list[list[Step]]:
    """Return the steps of each harm; the last step of a harm is not named, unless all may be.

    Args:
        x: Shifts [profiles, layers, directions].
        y: Harms [profiles, harms].
        clusters: Cluster of each profile.
        level: Family-wise error of a step, over layers, directions and harms.
        seed: Of the arrangements.
    """
    n, _, directions = x.shape
    orders = arrangements(clusters, ARRANGEMENTS, seed)
    ranks = standard_ranks(x.reshape(n, -1)).reshape(x.shape)
    left = {harm: (ranks, column) for harm, column in enumerate(standard_ranks(y).T) if np.any(column)}
    steps: list[list[Step]] = [[] for _ in range(y.shape[1])]
    for number in range(1, min(MOST_NAMED, directions) + 1):
        tested: dict[int, Step] = {}
        for harm, (shifts, column) in left.items():
            open_to = [d for d in range(directions) if d not in {s.direction for s in steps[harm]}]
            tested[harm] = Step(*best_direction(shifts, column, orders, open_to), number)
        adjusted = dict(zip(tested, holm([s.p for s in tested.values()]), strict=True))
        for harm, step in tested.items():
            named = adjusted[harm] <= level
            steps[harm].append(Step(*_fields(step), p_adjusted=adjusted[harm], named=named))
            if named:
                left[harm] = _without(*left[harm], steps[harm], ranks, n)
            else:
                del left[harm]
    return steps


def _fields(step: Step) -> tuple[int, int, float, float, int]:
    return step.direction, step.layer, step.r, step.p, step.step


def _without(
    shifts: Array, column: Array, steps: Sequence[Step], ranks: Array, n: int
) -> tuple[Array, Array]:
    """Take the named directions out of shifts and harm: at all their layers, or at the named one alone
    where profiles are few."""
    layers = ranks.shape[1]
    if n >= 3 * layers * len(steps) + 10:
        known = [ranks[:, :, s.direction] for s in steps]
    else:
        known = [ranks[:, s.layer, s.direction, None] for s in steps]
    design = np.hstack([np.ones((n, 1)), *known])
    u, s, _ = np.linalg.svd(design, full_matrices=False)
    basis = u[:, s > 1e-9 * s[0]]
    flat = ranks.reshape(n, -1)
    return (flat - basis @ (basis.T @ flat)).reshape(ranks.shape), column - basis @ (basis.T @ column)


Subjects = Mapping[tuple[str, str], Sequence[Shifts]]
"""Shifts by arm and profile (empty for arms without), one per training seed."""


def mechanism_table(shifts: Subjects, profiles: Sequence[Profile], confidence: float) -> pl.DataFrame:
    """Return the mean shift of each arm along every direction at every layer.

    Unit: target, the mean over its profiles and seeds. `own` is the correlation, over the profiles, of the
    shift along a value's vector with the importance of that value: whether the arm moves along a vector
    where its profile asks for the value.
    """
    by_name = {p.name: p for p in profiles}
    rows: list[dict[str, Any]] = []
    for arm in dict.fromkeys(arm for arm, _ in shifts):
        some = {name: _mean(models) for (a, name), models in shifts.items() if a == arm}
        first = next(iter(some.values()))
        for layer in range(first.shift.shape[0]):
            for place, direction in enumerate(first.directions):
                values = {name: float(one.shift[layer, place]) for name, one in some.items()}
                of_targets: dict[str, list[float]] = {}
                for name, value in values.items():
                    of_targets.setdefault(by_name[name].target if name else arm, []).append(value)
                means = [sum(x) / len(x) for x in of_targets.values()]
                estimate = mean_interval(
                    means, confidence, "target" if by_name and "" not in some else "model"
                )
                cosine = float(np.mean([one.cosine[layer, place] for one in some.values()]))
                row = {"arm": arm, "direction": direction, "layer": layer, **vars(estimate)}
                rows.append(row | {"cosine": cosine, "own": _own(values, by_name, direction)})
    return pl.DataFrame(rows, schema=MECHANISM_SCHEMA)


def _mean(models: Sequence[Shifts]) -> Shifts:
    """Return the mean over training seeds."""
    shift = np.mean([m.shift for m in models], axis=0)
    return Shifts(models[0].directions, shift, np.mean([m.cosine for m in models], axis=0))


def _own(values: Mapping[str, float], profiles: Mapping[str, Profile], direction: str) -> float | None:
    """Return the rank correlation of shifts along a value's vector with the value's importance."""
    if direction not in VALUES or len(values) < 3 or "" in values:
        return None
    wanted = np.array([profiles[name][direction] for name in values])
    ranks = standard_ranks(np.column_stack([list(values.values()), wanted]))
    return float((ranks[:, 0] * ranks[:, 1]).mean()) if ranks.any(axis=0).all() else None


def mechanism_harms_table(shifts: Subjects, arms: Sequence[Harms], level: float, seed: int) -> pl.DataFrame:
    """Return, for every arm with profiles and harm, the directions that were tested, in their order.

    Args:
        shifts: The shifts of the models.
        arms: The harms over the profiles of each arm and strategy.
        level: Family-wise error at which a direction is named.
        seed: Of the arrangements.
    """
    rows: list[dict[str, Any]] = []
    for harm in arms:
        known = [n for n, name in enumerate(harm.profiles) if (harm.arm, name) in shifts]
        if not known:
            continue
        models = [_mean(shifts[harm.arm, harm.profiles[n]]) for n in known]
        x = np.array([m.shift for m in models])
        for columns in _complete(harm.values[known]):
            rows += _related(harm, np.array(known), x, columns, models[0].directions, level, seed)
    return pl.DataFrame(rows, schema=MECHANISM_HARMS_SCHEMA)


def _complete(values: Array) -> list[list[int]]:
    """Return the harms that have a number for the same profiles, together."""
    groups: dict[bytes, list[int]] = {}
    for place in range(values.shape[1]):
        groups.setdefault(np.isfinite(values[:, place]).tobytes(), []).append(place)
    return list(groups.values())


def _related(
    harm: Harms,
    known: Array,
    x: Array,
    columns: list[int],
    directions: Sequence[str],
    level: float,
    seed: int,
) -> list[dict[str, Any]]:
    here = np.isfinite(harm.values[known][:, columns[0]])
    y = harm.values[known][here][:, columns]
    chosen = np.zeros(len(harm.values), dtype=bool)
    chosen[known[here]] = True
    n, targets = len(y), len(set(harm.clusters(chosen).tolist())) if len(y) else 0
    enough = n >= LEAST_PROFILES
    steps = (
        name_directions(x[here], y, harm.clusters(chosen), level, seed) if enough else [[]] * len(columns)
    )
    rows: list[dict[str, Any]] = []
    for column, of_harm in zip(columns, steps, strict=True):
        row = {
            "arm": harm.arm,
            "strategy": harm.strategy,
            **harm.labels[column],
            "n": n,
            "targets": targets,
        }
        if not of_harm:
            note = "nothing varies" if enough else f"fewer than {LEAST_PROFILES} profiles"
            rows.append(row | {"note": note, "named": False})
        for step in of_harm:
            rows.append(
                row
                | {"direction": directions[step.direction], "layer": step.layer, "step": step.step}
                | {
                    "value": step.r,
                    "p": step.p,
                    "p_adjusted": step.p_adjusted,
                    "named": step.named,
                    "note": "",
                }
            )
    return rows
