"""Preprocessing and selection of profiles: the row-by-row way of the published scripts against ours.

    python bench/data.py --data DATA [--quick]

DATA holds touche23/valueEval_10.csv, profiles/extreme_distributions.csv and ess/ess.csv; without it a
synthetic corpus and survey of the same size are made from a seed. Measures, in one process:

- preprocess: all profiles × all arguments scored by the minimum rule and split 80/10/10, in memory;
  row by row (a loop over profiles and rows, as published, without its file writing) and as matrices.
  Both results are compared.
- select: survey file → ten values → the ten nearest respondents of 14 extremes.

The last line is JSON: preprocess_ratio, preprocess_s, select_s.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unharm.core.values import VALUES
from unharm.corpus.stage_one import argument_scores
from unharm.profiles.extreme import TARGETS, extreme
from unharm.profiles.similar import most_similar
from unharm.profiles.survey import load_items, read_survey

Row = dict[str, str]


def row_by_row(
    profiles: list[dict[str, float]], rows: list[Row], threshold: float
) -> list[tuple[int, ...]]:
    """The plain way: for every profile and every row, collect the labelled values and take the least."""
    sizes = []
    for number, profile in enumerate(profiles):
        positive: list[dict[str, object]] = []
        negative: list[dict[str, object]] = []
        for row in rows:
            importances = [profile[v] for v in VALUES if row[v.capitalize()] == "1"]
            example = {"text": row["Premise"], "score": (score := min(importances))}
            (positive if score >= threshold else negative).append(example)
        parts: list[int] = []
        for group in (positive, negative):
            shuffled = random.Random(number).sample(group, len(group))
            first, second = bounds(len(group))
            parts += [len(shuffled[:first]), len(shuffled[first:second]), len(shuffled[second:])]
        sizes.append(tuple(parts))
    return sizes


def as_matrices(importances: np.ndarray, labels: np.ndarray, threshold: float) -> list[tuple[int, ...]]:
    """Our way: one matrix of scores, one order of the arguments for all profiles."""
    order = np.random.default_rng(42).permutation(len(labels))
    would = np.ascontiguousarray(argument_scores(importances, labels[order]) >= threshold)
    sizes = []
    for said in would:
        parts: list[int] = []
        for group in (order[said], order[~said]):
            first, second = bounds(len(group))
            parts += [len(p) for p in np.split(group, (first, second))]
        sizes.append(tuple(parts))
    return sizes


def bounds(n: int) -> tuple[int, int]:
    """Where train and valid end: 80 %, then half of the rest, rounded half to even as published."""
    first = round(0.8 * n)
    return first, first + round(0.5 * (n - first))


def timed(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    """The median of some runs in seconds, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return statistics.median(times), result


def synthetic(seed: int = 1) -> tuple[list[dict[str, float]], list[Row], Path]:
    """182 profiles, 7,374 arguments and a survey of 22,190 respondents, drawn by seed."""
    draw = np.random.default_rng(seed)
    profiles = [dict(zip(VALUES, x, strict=True)) for x in draw.uniform(1, 6, (182, 10)).tolist()]
    labels = draw.random((7374, 10)) < 0.28
    labels[~labels.any(axis=1), 0] = True
    names = [v.capitalize() for v in VALUES]
    rows = [
        {"Premise": f"premise {i}", **{n: str(int(x)) for n, x in zip(names, row, strict=True)}}
        for i, row in enumerate(labels)
    ]
    items = load_items().columns
    answers = draw.choice(
        [1, 2, 3, 4, 5, 6, 88], (22190, len(items)), p=[0.18, 0.32, 0.21, 0.13, 0.1, 0.055, 0.005]
    )
    path = Path(tempfile.mkdtemp()) / "survey.csv"
    lines = [",".join(items), *(",".join(map(str, row)) for row in answers.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return profiles, rows, path


def real(data: Path) -> tuple[list[dict[str, float]], list[Row], Path]:
    with (data / "profiles" / "extreme_distributions.csv").open() as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    profiles = [{v: float(r[v.capitalize()]) for v in VALUES} for r in table]
    with (data / "touche23" / "valueEval_10.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return profiles, rows, data / "ess" / "ess.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    words = parser.parse_args()
    if words.data and not words.data.is_dir():
        sys.exit(f"no such folder: {words.data}")
    profiles, rows, survey = real(words.data) if words.data else synthetic()
    importances = np.array([[p[v] for v in VALUES] for p in profiles])
    labels = np.array([[r[v.capitalize()] == "1" for v in VALUES] for r in rows])
    plain_s, plain = timed(lambda: row_by_row(profiles, rows, 3.0), 1 if words.quick else 3)
    ours_s, ours = timed(lambda: as_matrices(importances, labels, 3.0), 5 if words.quick else 15)
    if plain != ours:
        sys.exit("the two ways differ")

    def select() -> int:
        people = read_survey(survey, load_items())
        targets = [np.array(extreme(name).importances) for name in TARGETS]
        return sum(len(most_similar(people.importances, t, 10)) for t in targets)

    select_s, chosen = timed(select, 3 if words.quick else 9)
    source = str(words.data) if words.data else "synthetic"
    print(f"data: {source}; {len(profiles)} profiles, {len(rows):,} arguments")
    print(f"{'':34}{'seconds':>10}{'ratio':>8}")
    print(f"{'preprocess, row by row':34}{plain_s:>10.3f}{1:>8}")
    print(f"{'preprocess, matrices':34}{ours_s:>10.3f}{plain_s / ours_s:>8.0f}")
    print(f"{f'select, file to {chosen} profiles':34}{select_s:>10.3f}")
    result = {
        "preprocess_ratio": round(plain_s / ours_s, 1),
        "preprocess_s": round(ours_s, 4),
        "select_s": round(select_s, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
