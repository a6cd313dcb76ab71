"""Find a training rate that aligns a base without breaking its language: `unharm train STUDY --sweep lr=…`.

Every point of the sweep trains the study's value-injected arm on one or two of its profiles, in a folder
beside the run. It is judged on data that neither trains adapters nor measures harm:

    alignment   a validation questionnaire, made of arguments outside the training split: each is rated, and
                the ratings are compared with the profile (`unharm.analysis.alignment`)
    coherence   texts on a few prompts of one benchmark, as the base writes them and as the adapters do

No scorer and no service is asked, so a sweep costs training and a few hundred completions.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from statistics import mean
from typing import Any

import numpy as np
import polars as pl
import yaml

from unharm.analysis.alignment import Fit, by_target, fit
from unharm.analysis.tables import expected_ratings
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import VIM_STAGES
from unharm.core.draws import rank
from unharm.core.errors import UserError, nearest
from unharm.core.files.yaml_text import SpecText
from unharm.core.progress import say
from unharm.core.records import Profile, Subject
from unharm.core.values import VALUES
from unharm.runs.adapters import failed_names, loss_curves
from unharm.runs.context import LoadedBase, Run
from unharm.runs.execute import execute
from unharm.runs.pipeline import stages_to
from unharm.runs.plan import Plan
from unharm.runs.shards import all_shards
from unharm.runs.tools.sweep_result import Point, SweepRow, point_text, verdict_of
from unharm.scoring.built_in.rating import rating_of
from unharm.scoring.coherence import coherence_flag
from unharm.store.store import Store
from unharm.store.tables import csv_bytes
from unharm.study.check import parse_study
from unharm.study.doses import without_doses
from unharm.study.spec import Study
from unharm.training.loss_fall import fall_of

ITEMS = 6
"""Most items of one value in the validation questionnaire."""
TEXTS, TEXT_TOKENS = 16, 40
"""Prompts whose texts are checked for coherence, and the most tokens of a text."""
SCORING = ("scorer", "also", "human", "mapped", "half", "limit", "samples", "max_tokens")
"""Settings of a benchmark that a sweep does not take over."""
SWEEPABLE = tuple(arm for arm in VIM_STAGES if arm != "dpo")
"""Arms that `training.vim` trains."""
SWEPT = ("lr", "epochs", "batch", "accumulate", "weight_decay")
"""Fields of the recipe that can be swept."""


def parse_points(sweeps: list[str]) -> list[Point]:
    """Return the grid of settings for arguments such as `lr=1e-4,3e-4`.

    Raises:
        UserError: An argument names no field of the recipe, or a value is no number.
    """
    axes: dict[str, list[float | int]] = {}
    for text in sweeps:
        name, _, values = text.partition("=")
        if name not in SWEPT:
            raise UserError(f"{name!r} cannot be swept", "--sweep", nearest(name, SWEPT))
        try:
            numbers = [_number(v) for v in values.split(",")]
        except ValueError:
            raise UserError(
                f"{values!r} is no list of numbers", "--sweep", "for example lr=1e-4,3e-4,1e-3"
            ) from None
        axes[name] = list(dict.fromkeys(numbers))
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def _number(text: str) -> float | int:
    """Return a whole number as int and any other as float. Raise `ValueError` for all else."""
    number = float(text)
    return int(number) if number.is_integer() and number >= 1 else number


def swept_arm(study: Study) -> str:
    """Return the arm to sweep: the first value-injected one. Raise `UserError` if there is none."""
    arm = next((a for a in study.arms if a in SWEEPABLE), None)
    if arm is None:
        raise UserError(
            "a sweep needs a value-injected arm", "arms", f"expected one of: {', '.join(SWEEPABLE)}"
        )
    return arm


def chosen_profiles(profiles: list[Profile], names: list[str] | None) -> list[Profile]:
    """Return the profiles to sweep: those named, else the two that lie farthest apart."""
    if names:
        by_name = {p.name: p for p in profiles}
        for name in names:
            if name not in by_name:
                todo = nearest(name, tuple(by_name))
                raise UserError(f"no profile {name!r} in this study", "--profile", todo)
        return [by_name[name] for name in names]
    if len(profiles) < 2:
        return profiles
    importances = np.array([p.importances for p in profiles], dtype=float)
    distances = ((importances[:, None] - importances[None]) ** 2).sum(axis=2)
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    return [profiles[min(first, second)], profiles[max(first, second)]]


def validation_items(plan: Plan) -> pl.DataFrame:
    """Return the validation questionnaire: item, value, text.

    The items are the statements of arguments outside the training split, at most `ITEMS` for each value.
    Arguments of one value alone come first, for what they measure is clear.

    Raises:
        UserError: A value has no such argument.
    """
    pairs = plan.rated_pairs
    held_out: dict[str, list[tuple[bool, str, str]]] = {value: [] for value in VALUES}
    for argument_place, value_place in zip(pairs.arguments.tolist(), pairs.values.tolist(), strict=True):
        argument = plan.arguments[argument_place]
        if plan.splits[argument.id] != "train":
            order = rank(plan.study.seed, f"sweep {argument.id}")
            held_out[VALUES[value_place]].append((len(argument.values) > 1, order, argument.id))
    missing = [value for value, arguments in held_out.items() if not arguments]
    if missing:
        raise UserError(
            f"no argument outside the training split is about {', '.join(missing)}",
            "corpus",
            "raise corpus.limit, or the shares of valid and test in corpus.split",
        )
    rows = [
        {"item": f"{value}-{number}", "value": value, "text": plan.pack.statement(plan.argument(identity))}
        for value, arguments in held_out.items()
        for number, (_, _, identity) in enumerate(sorted(arguments)[:ITEMS], start=1)
    ]
    return pl.DataFrame(rows)


def sweep(study: Study, points: list[Point], names: list[str] | None = None) -> Iterator[SweepRow]:
    """Try every point and yield its result. A sweep that was stopped goes on where it was.

    Args:
        study: The study whose recipe is looked for.
        points: The settings to try, see `parse_points`.
        names: Profiles to train on; None for the two that lie farthest apart.

    Raises:
        UserError: The study trains no value-injected arm, or has no arguments to validate on.
    """
    arm, plan = swept_arm(study), Plan(study)
    profiles = chosen_profiles(plan.profiles, names)
    items = validation_items(plan)
    place = f"{study.output_location.rstrip('/')}-sweep"
    store = Store.open(place)
    derived = sweep_data(study, arm, store)
    store.check_owner(str(derived["name"]))
    store.claim(str(derived["name"]))
    table = pl.DataFrame([{"name": p.name, **{v: p[v] for v in VALUES}} for p in profiles])
    store.write_plain("sweep/profiles.csv", csv_bytes(table).decode())
    store.write_plain("sweep/questionnaire.csv", csv_bytes(items).decode())
    rows: list[SweepRow] = []
    loaded: LoadedBase | None = None
    for point in points:
        say(f"sweep: {point_text(point)}, {arm} on {' and '.join(p.name for p in profiles)}")
        one = study_at(derived, point)
        run = Run(one, Store.open(place), Plan(one), shared_base=loaded)
        execute(run, stages_to("completions"))
        loaded = run.loaded
        rows.append(result_of(run, point, arm))
        store.write_plain("sweep/results.json", json.dumps([asdict(row) for row in rows], indent=1))
        yield rows[-1]


def sweep_data(study: Study, arm: str, store: Store) -> dict[str, Any]:
    """Return the study of a sweep as plain data: one arm, its profiles, two short benchmarks."""
    data: dict[str, Any] = study.model_dump(mode="json", exclude_defaults=True)
    folder = store.root.absolute() / "sweep"
    chosen: dict[str, Any] = {
        "questionnaire": {"file": str(folder / "questionnaire.csv"), "max_tokens": 12}
    }
    texts = [n for n in study.benchmarks.chosen() if BENCHMARKS[n].mode != "rate"]
    if texts:
        first = min(texts, key=lambda n: BENCHMARKS[n].mode != "continue")
        spec = data["benchmarks"][first]
        kept = {k: v for k, v in spec.items() if k not in SCORING}
        chosen[first] = kept | {"limit": TEXTS, "samples": 1, "max_tokens": TEXT_TOKENS}
    return without_doses(data) | {
        "name": f"{study.name[:60]}-sweep", "output": store.location, "arms": ["vanilla", arm],
        "profiles": [{"file": str(folder / "profiles.csv")}], "strategies": ["input-only"],
        "benchmarks": chosen, "mitigation": None, "mechanism": None, "adapters": {}, "served": {},
        "scorers": {}, "analysis": {}, "seeds": None,
    }  # fmt: skip


def study_at(data: Mapping[str, Any], point: Point) -> Study:
    """Return the study of a sweep at one point."""
    training = dict(data.get("training", {}))
    training["vim"] = dict(training.get("vim", {})) | point
    return parse_study(SpecText(yaml.safe_dump({**data, "training": training}), "sweep"))


def result_of(run: Run, point: Point, arm: str) -> SweepRow:
    """Read alignment and coherence of a point from its completions."""
    others = by_target(run.plan.profiles)
    fits: list[Fit] = []
    broken: dict[str, list[bool]] = {"vanilla": [], arm: []}
    by_subject: dict[Subject, list[pl.DataFrame]] = {}
    for shard in all_shards(run):
        completions = run.store.scan(shard.completions)
        if shard.benchmark == "questionnaire":
            by_subject.setdefault(shard.subject, []).append(_ratings(completions))
        else:
            texts = completions.filter(pl.col("status") == "completed").select("text").collect()["text"]
            broken[shard.subject.arm] += [
                bool(coherence_flag(text)) or run.plan.pack.is_rating_answer(text) for text in texts
            ]
    value_of = {p.id: p.category for p in run.plan.prompts["questionnaire"].prompts}
    for subject, parts in by_subject.items():
        if subject.profile is not None:
            about = pl.col("prompt_id").replace_strict(value_of).alias("about")
            means = dict(pl.concat(parts).group_by(about).agg(pl.col("value").mean()).iter_rows())
            fits.append(fit([means.get(v) for v in VALUES], subject.profile, others))
    steps, fall = _trained(run, arm)
    shares = {name: mean(flags) if flags else None for name, flags in broken.items()}
    return SweepRow(
        point, steps, fall, _mean([f.correlation for f in fits]), _mean([f.skill for f in fits]),
        _mean([f.span for f in fits]), shares[arm], shares["vanilla"],
        verdict_of(fits, shares[arm], shares["vanilla"], bool(failed_names(run))),
    )  # fmt: skip


def _ratings(completions: pl.LazyFrame) -> pl.DataFrame:
    """Return prompt_id and `value`, the rating of each completion.

    It is the expected rating where the engine tells the answers' probabilities, else that of the text.
    """
    expected = expected_ratings(completions).select("prompt_id", "value")
    if expected["value"].count():
        return expected
    texts = completions.select("prompt_id", "text").collect()
    ratings = [rating_of(text) for text in texts["text"]]
    return texts.select("prompt_id", value=pl.Series(ratings, dtype=pl.Float64))


def _trained(run: Run, arm: str) -> tuple[int, float | None]:
    """Return the optimiser steps of the arm's adapters, and the share by which their loss fell."""
    curves = loss_curves(run).filter((pl.col("curve") == "train") & (pl.col("arm") == arm))
    falls = [fall_of(part) for _, part in curves.group_by("profile", maintain_order=True)]
    return (falls[0][0], mean(fall for _, fall in falls)) if falls else (0, None)


def _mean(numbers: list[float | None]) -> float | None:
    """Return the mean of the known numbers; None if one is unknown."""
    known = [n for n in numbers if n is not None]
    return mean(known) if known and len(known) == len(numbers) else None
