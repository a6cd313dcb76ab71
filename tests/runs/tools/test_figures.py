"""Figures of a dry run as files, and the order of clustered heat maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from unharm.analysis.schemas import (
    ALIGNMENT_SCHEMA,
    ASSOCIATIONS_SCHEMA,
    COMPARISONS_SCHEMA,
    SUBJECTS_SCHEMA,
)
from unharm.cli.app import app
from unharm.core.values import VALUES
from unharm.report.chart_files import PALETTE, styles
from unharm.report.clustered import clustered_order
from unharm.report.radar import CIRCLE
from unharm.report.scatter import scatter_points
from unharm.runs.tools import figures
from unharm.study.spec import Study

PROFILES = ("power", "benevolence", "security", "tradition")
SCORER = {"scorer": "s", "scorer_version": "1", "stand_in": True}


def table(rows: list[dict[str, Any]], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def alignment() -> pl.DataFrame:
    rows = [
        {"arm": arm, "profile": name, "strategy": "input-only", "reading": "text", "value": 0.1, "correlation": n / 4}
        | {f"{kind}_{v}": 1.0 + (n + len(v)) % 5 for kind in ("target", "predicted") for v in VALUES}
        for arm in ("vanilla", "vim")
        for n, name in enumerate(PROFILES)
    ]  # fmt: skip
    return table(rows, ALIGNMENT_SCHEMA)


def subjects() -> pl.DataFrame:
    common = {
        "strategy": "input-only",
        "benchmark": "hexphi",
        "category": "all",
        "metric": "harmfulness",
        **SCORER,
    }
    rows = [common | {"arm": "vim", "profile": p, "value": 1.0 + n} for n, p in enumerate(PROFILES)]
    return table([*rows, common | {"arm": "vanilla", "profile": "", "value": 2.0}], SUBJECTS_SCHEMA)


def associations() -> pl.DataFrame:
    common = {
        "arm": "vim",
        "strategy": "input-only",
        "benchmark": "hexphi",
        "metric": "harmfulness",
        **SCORER,
    }
    draw = np.random.default_rng(1)
    rows = [
        common
        | {"category": c, "schwartz_value": v, "value": float(draw.uniform(-1, 1)), "p_adjusted": 0.01}
        for c in ("malware", "fraud", "hate")
        for v in VALUES
    ]
    return table(rows, ASSOCIATIONS_SCHEMA)


def comparisons() -> pl.DataFrame:
    row = {"kind": "arms", "family": "arms", "arm": "vim", "strategy": "input-only", "reference": "vanilla",
           "reference_strategy": "input-only", "benchmark": "hexphi", "category": "all", "metric": "harmfulness",
           "value": 0.5, "low": 0.2, "high": 0.8, "p_adjusted": 0.01, **SCORER}  # fmt: skip
    return table([row, row | {"metric": "share_of_5", "low": None, "high": None}], COMPARISONS_SCHEMA)


TABLES = {
    "alignment": alignment(),
    "subjects": subjects(),
    "associations": associations(),
    "comparisons": comparisons(),
}


class Tables:
    """The part of a run that figures read."""

    folder = Path("runs/x")

    def __init__(self, tables: dict[str, pl.DataFrame]):
        self.study = Study.model_validate(
            {"name": "x", "base": "toy", "data": "toy", "arms": ["vanilla", "vim"], "profiles": ["extreme"],
             "corpus": {"arguments": "a.tsv"}, "benchmarks": {"hexphi": {"file": "hexphi"}}}
        )  # fmt: skip
        self.tables = tables

    def table(self, name: str) -> pl.DataFrame:
        return self.tables[name]


@pytest.fixture
def run() -> Iterator[Tables]:
    tables = Tables(dict(TABLES))
    with mock.patch.object(figures, "open_handle", return_value=tables):
        yield tables


def figure(*words: str) -> Result:
    return CliRunner().invoke(app, ["figure", "runs/x", *words])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("scatter", ["vim", "harmfulness (1 to 5) †", "dashed: vanilla († stand-in scorer)"]),
        ("heatmap", ["HEx-PHI: malware †", "universalism", "rank correlation"]),
        ("radar", ["Profile tradition", "target", "self-direction", "vanilla"]),
        ("forest", ["vim: harmfulness (1 to 5) †", "percentage points", "95 % intervals"]),
    ],
)
def test_every_figure_shows_what_it_is_about(
    run: Tables, tmp_path: Path, name: str, shown: list[str]
) -> None:
    file = tmp_path / "figure.svg"
    result = figure(name, "--out", str(file), "--profile", "tradition")
    assert result.exit_code == 0, result.output
    text = file.read_text()
    assert [part for part in shown if part not in text] == []


def test_all_formats_are_written_and_nothing_is_written_over(run: Tables, tmp_path: Path) -> None:
    files = [tmp_path / f"a.{kind}" for kind in ("png", "svg", "pdf")]
    words = [word for file in files for word in ("--out", str(file))]
    assert figure("forest", *words).exit_code == 0
    begins = [file.read_bytes()[:4] for file in files]
    assert begins == [b"\x89PNG", b"<svg", b"%PDF"]
    assert "exists already" in str(figure("forest", *words).exception)
    assert figure("forest", *words, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [(["scater"], "did you mean 'scatter'"), (["radar", "--profile", "powr"], "no profile named 'powr'"),
     (["radar", "--arm", "vimm"], "not in this run: 'vimm'"), (["forest", "--out", "a.gif"], "no figures of the format '.gif'"),
     (["scatter", "--arm", "vanilla"], "vanilla has no profiles")],
)  # fmt: skip
def test_a_mistake_is_told(
    run: Tables, tmp_path: Path, monkeypatch: Any, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in str(figure(*words).exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["scatter", "heatmap", "radar", "forest"])
def test_a_run_with_nothing_to_draw_says_why(run: Tables, tmp_path: Path, name: str) -> None:
    run.tables = {key: frame.clear() for key, frame in TABLES.items()}
    assert "nothing to draw" in str(figure(name, "--out", str(tmp_path / "a.svg")).exception)


def test_points_join_alignment_and_harm_of_each_profile() -> None:
    points = scatter_points(alignment(), subjects(), ["vim"], "input-only")
    assert points.select("profile", "alignment", "harm").rows() == [
        ("power", 0.0, 1.0), ("benevolence", 0.25, 2.0), ("security", 0.5, 3.0), ("tradition", 0.75, 4.0)
    ]  # fmt: skip


def test_near_rows_stand_side_by_side() -> None:
    rows = np.array([[0.0, 0.0], [5.0, 5.0], [0.1, 0.0], [5.1, np.nan], [5.0, 4.9]])
    order = clustered_order(rows)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(4)) == 1
    assert clustered_order(rows[:2]) == [0, 1]


def test_no_two_arms_look_alike() -> None:
    for colours in (PALETTE, PALETTE[:-1]):
        looks = styles(30, colours)
        assert len({(s.colour, s.shape) for s in looks}) == 30
        assert len({(s.colour, tuple(s.dash)) for s in looks}) == 30
    first = styles(len(PALETTE))
    assert len({s.colour for s in first}) == len({s.shape for s in first}) == len(PALETTE)
    assert all(s.dash == [1, 0] for s in first)


def test_the_circle_has_every_value_once() -> None:
    assert sorted(CIRCLE) == sorted(VALUES)
