"""Tests of `unharm.runs.tools.sweep` and its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.runs.plan import Plan
from unharm.runs.tools.sweep import chosen_profiles, parse_points, sweep, validation_items
from unharm.runs.tools.sweep_result import (
    ALIGNS,
    BREAKS,
    FAILED,
    NOT,
    SweepRow,
    advice,
    sweep_text,
)


def row(lr: float, correlation: float, skill: float, verdict: str) -> SweepRow:
    return SweepRow({"lr": lr}, 300, 0.8, correlation, skill, 3.0, 0.1, 0.05, verdict)


def test_arguments_make_a_grid() -> None:
    assert parse_points(["lr=1e-4,3e-4", "epochs=2,5"]) == [
        {"lr": 1e-4, "epochs": 2},
        {"lr": 1e-4, "epochs": 5},
        {"lr": 3e-4, "epochs": 2},
        {"lr": 3e-4, "epochs": 5},
    ]
    with pytest.raises(UserError, match=r"(?s)'rate' cannot be swept.*expected one of: lr, epochs"):
        parse_points(["rate=1"])
    with pytest.raises(UserError, match="no list of numbers"):
        parse_points(["lr=fast"])


def test_the_best_point_aligns_without_breaking_texts() -> None:
    rows = [row(1e-4, 0.3, -0.1, NOT), row(3e-4, 0.7, 0.3, ALIGNS), row(1e-3, 0.8, 0.4, ALIGNS)]
    assert advice(rows) == "use training.vim.lr: 0.001 (skill 0.40 over the best constant answer)"
    assert advice([*rows[:1], row(1e-2, 0.9, 0.5, BREAKS)]).startswith(
        "no point aligns; nearest is lr=0.0001 with a correlation of 0.30. Try more epochs"
    )
    assert advice([row(1.0, 0.0, 0.0, FAILED)]).startswith("no point aligns: all break texts or failed")
    table = sweep_text(rows).splitlines()
    assert table[0].split()[:4] == ["point", "steps", "loss", "correlation"]
    assert table[2].split() == [
        "lr=0.0003",
        "300",
        "-80",
        "%",
        "0.70",
        "0.30",
        "3.00",
        "10",
        "%",
        "5",
        "%",
        ALIGNS,
    ]


def test_the_questionnaire_is_made_of_arguments_that_nothing_trains_on(tiny_study: Any, load: Any) -> None:
    tiny_study["corpus"]["limit"] = None
    plan = Plan(load(tiny_study))
    items = validation_items(plan)
    assert set(items["value"]) == set(VALUES)
    statements = {plan.pack.statement(a) for a in plan.arguments if plan.splits[a.id] == "train"}
    assert not statements & set(items["text"])
    tiny_study["corpus"]["limit"] = 12
    with pytest.raises(
        UserError, match=r"(?s)no argument outside the training split is about .*raise corpus.limit"
    ):
        validation_items(Plan(load(tiny_study)))


def test_the_two_profiles_farthest_apart_are_taken(tiny_study: Any, load: Any) -> None:
    tiny_study["profiles"] = [{"extreme": ["power", "conservation", "openness to change"]}]
    profiles = Plan(load(tiny_study)).profiles
    assert [p.name for p in chosen_profiles(profiles, None)] == [profiles[1].name, profiles[2].name]
    assert [p.name for p in chosen_profiles(profiles, [profiles[0].name])] == [profiles[0].name]
    with pytest.raises(UserError, match="no profile 'nobody'"):
        chosen_profiles(profiles, ["nobody"])


def test_a_sweep_trains_every_point_and_goes_on_where_it_was(
    tiny_study: Any, load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_study["corpus"] = {"arguments": "arguments.tsv", "split": [0.2, 0.4, 0.4]}
    tiny_study["arms"] = ["vanilla", "vim-qa"]
    tiny_study["profiles"] = [{"extreme": ["power", "benevolence"]}]
    tiny_study["training"] = {"vim": {"lr": 1e-3, "epochs": 1, "batch": 16}}
    study = load(tiny_study)
    points = parse_points(["lr=1e-6,3e-2"])
    low, high = sweep(study, points)
    assert (low.point, high.point) == ({"lr": 1e-6}, {"lr": 3e-2})
    assert low.steps == high.steps > 3
    assert low.fall is not None
    assert high.fall is not None
    assert high.fall != low.fall
    assert low.incoherent_base == high.incoherent_base
    assert low.verdict in (NOT, BREAKS)
    assert low.correlation != high.correlation
    stored = json.loads((tmp_path / "run-sweep" / "sweep" / "results.json").read_text())
    assert [r["point"] for r in stored] == [{"lr": 1e-6}, {"lr": 0.03}]
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    assert list(sweep(study, points)) == [low, high]
    assert "adapters done" not in capsys.readouterr().err  # nothing is trained again


def test_a_study_without_a_value_injected_arm_cannot_be_swept(tiny_study: Any, load: Any) -> None:
    tiny_study["arms"] = ["vanilla", "icl"]
    with pytest.raises(UserError, match="a sweep needs a value-injected arm"):
        list(sweep(load(tiny_study), [{"lr": 1e-3}]))
