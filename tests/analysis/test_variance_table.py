"""The table that splits the variance of scores, on scores whose components are known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from unharm.analysis.comparisons import Cells
from unharm.analysis.paired import Rows
from unharm.analysis.variance_table import components, sample_variance, variance_table
from unharm.core.records import Profile, Subject

TRUE = {"prompt": 0.04, "profile": 0.02, "seed": 0.03, "profile × seed": 0.01, "prompt × model": 0.05}


def scores(draw: np.random.Generator, profiles: int = 12, seeds: int = 8, prompts: int = 60) -> Rows:
    """Scores with the components of `TRUE`."""

    def part(source: str, *shape: int) -> np.ndarray:
        return np.sqrt(TRUE[source]) * draw.normal(size=shape)

    values = part("prompt", 1, 1, prompts) + part("profile", profiles, 1, 1) + part("seed", 1, seeds, 1)
    values = values + part("profile × seed", profiles, seeds, 1)
    values = values + part("prompt × model", profiles, seeds, prompts)
    names = tuple(f"p{n // seeds}" for n in range(profiles * seeds))
    return Rows(values.reshape(-1, prompts), names, names, tuple(range(seeds)) * profiles)


def test_the_components_are_those_of_the_scores() -> None:
    draw = np.random.default_rng(5)
    found: dict[str, list[float]] = {source: [] for source in TRUE}
    for _ in range(60):
        for one in components(scores(draw), None, trained=True):
            assert one.variance is not None
            found[one.source].append(one.variance)
    for source, expected in TRUE.items():
        error = np.std(found[source]) / np.sqrt(60)
        assert np.mean(found[source]) == pytest.approx(expected, abs=max(3 * error, 0.001)), source


def test_one_seed_says_what_it_cannot_show() -> None:
    rows = scores(np.random.default_rng(1), seeds=1)
    by_source = {c.source: c for c in components(rows, 0.02, trained=True)}
    assert by_source["seed"].variance is None
    assert "not known" in by_source["seed"].note
    assert by_source["sample"].variance == 0.02
    assert "seed" not in {c.source for c in components(rows, None, trained=False)}


def test_a_single_model_has_prompts_and_samples_alone() -> None:
    rows = Rows(np.array([[0.0, 1.0, 0.0, 1.0]]), ("",), ("",), (0,))
    found = components(rows, 0.1, trained=False)
    assert [(c.source, c.units) for c in found] == [("prompt", 4), ("sample", 4)]
    assert found[0].variance == pytest.approx(1 / 3 - 0.1)


def test_sampling_brings_the_variance_of_a_mean() -> None:
    frame = pl.DataFrame(
        {"prompt_id": ["a", "a", "b", "b", "c"], "value": [0.0, 1.0, 1.0, 1.0, None]},
        schema={"prompt_id": pl.String, "value": pl.Float64},
    )
    assert sample_variance(frame, of_mean=True) == pytest.approx((0.5 / 2 + 0) / 2)
    assert sample_variance(frame, of_mean=False) is None
    assert sample_variance(frame.head(1), of_mean=True) is None


def test_the_table_has_shares_and_what_moves_the_mean() -> None:
    rows = scores(np.random.default_rng(2))
    cells = Cells(scorers={"hexphi": {"scorer": "x", "scorer_version": "1", "stand_in": True}})
    ids = [f"{n}" for n in range(rows.values.shape[1])]
    for name, seed, values in zip(rows.profiles, rows.seeds, rows.values, strict=True):
        subject = Subject("vim", Profile(name, (1.0,) * 10), "input-only", seed)
        frame = pl.DataFrame({"id": ids, "category": [""] * len(ids), "value": values})
        cells.add(subject, "hexphi", "flagged_rate", frame)
    table = variance_table(cells, {(("vim", "input-only"), "hexphi"): [0.01, None]}, ["vim"])
    assert table["source"].to_list() == [
        "prompt", "profile", "seed", "profile × seed", "prompt × model", "sample"
    ]  # fmt: skip
    assert table["share"].sum() == pytest.approx(1.0)
    error = dict(table.select("source", "standard_error").iter_rows())
    assert 0.5 < error["seed"] / np.sqrt(TRUE["seed"] / 8) < 2
