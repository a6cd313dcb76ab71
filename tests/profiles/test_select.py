"""Tests of `unharm.profiles.select`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from support.profiles_helpers import write
from support.survey_helpers import ITEMS, answers, survey
from unharm.benchmarks.registry import Benchmarks
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.profiles.extreme import TARGETS, extreme
from unharm.profiles.settings import ProfileSource
from unharm.profiles.survey import read_survey
from unharm.runs.plan import profiles_of
from unharm.study.spec import Study


def test_names_must_differ_over_all_sources(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "power,1,1,1,1,1,1,1,1,1,1")
    study = Study(
        name="x", base="toy", arms=["icl"], benchmarks=Benchmarks(),
        profiles=[ProfileSource(extreme=["power"]), ProfileSource(file=str(path))],
    )  # fmt: skip
    with pytest.raises(UserError, match="two profiles are named 'power'"):
        profiles_of(study)


PUBLISHED = {
    "achievement": "Ach", "benevolence": "Ben", "conformity": "Con", "hedonism": "Hed", "power": "Pow",
    "security": "Sec", "self-direction": "SD", "stimulation": "Sti", "tradition": "Tra",
    "universalism": "Uni", "openness-to-change": "Openness_to_Change",
    "self-enhancement": "Self-Enhancement", "conservation": "Conservation",
    "self-transcendence": "Self-Transcendence",
}  # fmt: skip


def neighbours(path: Path, **more: Any) -> Study:
    return Study(
        name="x", base="toy", data=str(path.parent), arms=["icl"], benchmarks=Benchmarks(),
        profiles=[ProfileSource(survey=path.name, nearest=2, to=["power"])], **more,
    )  # fmt: skip


def test_golden_neighbours(tmp_path: Path) -> None:
    rows = [
        answers(power=p, achievement=a, universalism=u) for p in (1, 3, 5) for a in (2, 4) for u in (3, 6)
    ]
    path = survey(tmp_path / "s.csv", rows)
    corrected = profiles_of(neighbours(path))
    everybody = read_survey(path, ITEMS).importances
    target = np.array(extreme("power").importances)
    nearest = sorted(everybody.tolist(), key=lambda v: jensenshannon(v, target))[:2]
    assert [p.name for p in corrected] == ["power-near-1", "power-near-2"]
    assert [list(p.importances) for p in corrected] == nearest
    assert (corrected[0]["power"], corrected[0]["achievement"]) == (6, 3)
    assert corrected[0].source == "s.csv row 4"
    published = profiles_of(neighbours(path, fidelity="published"))
    assert [p["power"] for p in published] == [5, 5]
    with pytest.raises(UserError, match="500 nearest respondents"):
        profiles_of(
            neighbours(path).model_copy(update={"profiles": [ProfileSource(survey="s.csv", nearest=500)]})
        )


def ess_study(real_data: Path, fidelity: str) -> Study:
    return Study(
        name="x", base="toy", data=str(real_data), arms=["icl"], benchmarks=Benchmarks(), fidelity=fidelity,  # type: ignore[arg-type]
        profiles=[ProfileSource(survey="ess/ess.csv", nearest=10)],
    )  # fmt: skip


def test_the_published_neighbours_from_the_uncorrected_vectors(real_data: Path) -> None:
    """All 140 published respondents as 14 sets of ten, at least 137 in their exact rank."""
    with (real_data / "profiles" / "extreme_distributions.csv").open() as file:
        table = {r[0]: np.array(r[1:], dtype=float) for r in list(csv.reader(file, delimiter="\t"))[1:]}
    found = {p.name: np.array(p.importances) for p in profiles_of(ess_study(real_data, "published"))}
    exact = 0
    for name, short in PUBLISHED.items():
        theirs = [table[f"close_{short}"], *(table[f"close_{short}_{k}"] for k in range(2, 11))]
        ours = [found[f"{name}-near-{k}"] for k in range(1, 11)]
        key = [tuple(np.round(v, 6)) for v in ours]
        assert sorted(key) == sorted(tuple(np.round(v, 6)) for v in theirs), name
        exact += sum(np.allclose(a, b) for a, b in zip(theirs, ours, strict=True))
    assert exact >= 137


def test_corrected_neighbours_hold_the_target_value_high(real_data: Path) -> None:
    target, others = [], []
    corrected = profiles_of(ess_study(real_data, "corrected"))
    for profile in corrected:
        high = TARGETS[profile.name.rpartition("-near-")[0]]
        target.append(np.mean([profile[v] for v in high]))
        others.append(np.mean([profile[v] for v in VALUES if v not in high]))
    assert len(target) == 140
    assert np.mean(target) >= 5.3
    assert np.mean(others) <= 3.0
    published = {p.source for p in profiles_of(ess_study(real_data, "published"))}
    assert not published & {p.source for p in corrected}


def test_the_154_profiles_in_one_line(real_data: Path, load: Any, tiny_study: dict[str, Any]) -> None:
    study = load(tiny_study, f"profiles=[extreme, {{survey: {real_data}/ess/ess.csv, nearest: 10}}]")
    assert len(profiles_of(study)) == 154
