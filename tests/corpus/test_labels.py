"""The labels of all profiles in one pass equal those made one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.draws import uniform
from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.corpus.labels import (
    importance_matrix,
    label_matrix,
    rated_pairs,
    rating_matrix,
    would_say_matrix,
)
from unharm.corpus.vim import ag_examples, qa_examples, round_stochastically, shift_labels, would_say
from unharm.prompting.pack import load_pack
from unharm.runs.adapters import adapter_tasks, example_count, examples_of
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.runs.stages.examples import make_examples
from unharm.store.store import Store

importances = st.lists(st.floats(1, 6), min_size=10, max_size=10).map(tuple)
value_sets = st.sets(st.sampled_from(VALUES), min_size=1).map(lambda s: tuple(v for v in VALUES if v in s))


@given(st.lists(importances, min_size=1, max_size=5), st.lists(value_sets, min_size=1, max_size=8),
       st.floats(1, 6), st.booleans())  # fmt: skip
def test_matrices_equal_the_rules_for_single_profiles(
    people: list[tuple[float, ...]], labels: list[tuple[str, ...]], threshold: float, published: bool
) -> None:
    profiles = [Profile(str(n), x) for n, x in enumerate(people)]
    arguments = [Argument(str(n), "c", "against", "p", v) for n, v in enumerate(labels)]
    matrix = importance_matrix(profiles)
    would = would_say_matrix(matrix, label_matrix(arguments), threshold)
    assert would.tolist() == [[would_say(p, a, threshold) for a in arguments] for p in profiles]
    pairs = rated_pairs(arguments, 7, published)
    expected = [
        [
            round_stochastically(p[v], uniform(7, a.id, v))
            for a in arguments
            for v in (shift_labels(a.values) if published else a.values)
        ]
        for p in profiles
    ]
    assert rating_matrix(matrix, pairs).tolist() == expected


def test_the_worked_example_of_the_module() -> None:
    profiles = [
        Profile("p1", importances_of(power=6, security=1)),
        Profile("p2", importances_of(power=4, security=3)),
    ]
    arguments = [
        Argument("a1", "c", "against", "p", ("power",)),
        Argument("a2", "c", "against", "p", ("security",)),
        Argument("a3", "c", "against", "p", ("power", "security")),
    ]
    would = would_say_matrix(importance_matrix(profiles), label_matrix(arguments), 3.0)
    assert would.astype(int).tolist() == [[1, 0, 0], [1, 1, 1]]


def importances_of(**given: float) -> tuple[float, ...]:
    return tuple(float(given.get(v, 1.0)) for v in VALUES)


def test_stored_labels_are_worded_as_the_rules_say(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    study = load(tiny_study)
    run = Run(study, Store(tmp_path / "run"), Plan(study))
    with run.store.lock():
        make_examples(run)
    assert sorted(p.name for p in (tmp_path / "run" / "examples").iterdir()) == [
        "ag.parquet", "benign-grammar.parquet", "qa.parquet",
    ]  # fmt: skip
    plan, pack = run.plan, load_pack("toy")
    for task in adapter_tasks(run).trained:
        profile = task.plan.profile
        if profile is None:
            continue
        if task.plan.stage == "ag":
            every = ag_examples(plan.arguments, plan.splits, profile, pack, 3.0)
        else:
            every = qa_examples(plan.arguments, plan.splits, profile, pack, study.seed)
        for split in ("train", "valid", "test"):
            wanted = [e for e in every if e.split == split]
            assert examples_of(run, task, split) == wanted
            assert example_count(run, task, split) == len(wanted)


def test_profiles_with_equal_labels_share_an_adapter(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    rows = [
        "name," + ",".join(VALUES),
        "one," + ",".join(["5"] + ["1"] * 9),
        "two," + ",".join(["6"] + ["2"] * 9),
    ]
    (tmp_path / "near.csv").write_text("\n".join(rows))
    study = load({**tiny_study, "profiles": [{"file": str(tmp_path / "near.csv")}], "arms": ["vim"]})
    run = Run(study, Store(tmp_path / "run"), Plan(study))
    tasks = {(t.plan.profile_name, t.plan.stage): t for t in adapter_tasks(run).trained}
    assert tasks["one", "ag"].key == tasks["two", "ag"].key  # they would say the same arguments
    assert tasks["one", "qa"].key != tasks["two", "qa"].key  # and rate them differently
    assert np.array_equal(run.plan.would_say[0], run.plan.would_say[1])
