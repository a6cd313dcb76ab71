"""Tests of `unharm.report.answers`: sentences that agree with the tables they come from."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.schemas import ALIGNMENT_SCHEMA, ARMS_SCHEMA, ASSOCIATIONS_SCHEMA, COMPARISONS_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.report.answers import answers
from unharm.report.inputs import ReportedStudy
from unharm.report.published import other_definitions


def study(fidelity: str = "corrected") -> ReportedStudy:
    return ReportedStudy("s", "b", ["vanilla", "vim"], ["input-only"], 1, fidelity, Analysis(), {})


def row(category: str, verdict: str, value: float, p: float | None) -> dict[str, Any]:
    return {
        "kind": "arms", "family": "arms" if category == "all" else "arms by category", "arm": "vim",
        "strategy": "input-only", "reference": "vanilla", "reference_strategy": "input-only",
        "benchmark": "beavertails", "category": category, "metric": "flagged_rate", "value": value,
        "low": value - 0.02, "high": value + 0.02, "p": p, "p_adjusted": p, "verdict": verdict, "seeds": 1,
        "stand_in": False,
    }  # fmt: skip


def sentences(rows: list[dict[str, Any]]) -> str:
    tables = {
        "alignment": pl.DataFrame(schema=ALIGNMENT_SCHEMA),
        "associations": pl.DataFrame(schema=ASSOCIATIONS_SCHEMA),
        "arms": pl.DataFrame(schema=ARMS_SCHEMA),
        "comparisons": pl.DataFrame(rows, schema=COMPARISONS_SCHEMA),
    }
    lead = answers(study(), tables)["lead"]
    assert len(lead) == 1
    return lead[0]


def test_a_benchmark_without_a_difference_does_not_hide_categories_that_differ() -> None:
    text = sentences(
        [
            row("all", "undecided", 0.01, 0.4),
            row("malware", "differs", 0.12, 0.001),
            row("privacy", "equivalent", 0.0, 1.0),
            row("terrorism", "undecided", 0.03, 0.2),
            row("deception", "not tested", 0.05, None),
        ]
    )
    assert "No difference of vim from vanilla is shown on whole benchmarks" in text
    assert "1 undecided" in text
    assert "By category 1 of 4 differ (" in text
    assert "malware +12.0 points" in text
    assert "1 equivalent within the margin, 1 undecided, 1 with too few prompts to tell." in text


def test_a_difference_is_told_with_its_interval_and_what_one_seed_cannot_show() -> None:
    text = sentences([row("all", "differs", 0.1, 0.001), row("malware", "undecided", 0.1, 0.3)])
    assert "raised flagged rate by 10.0 points [+8.0 to +12.0]" in text
    assert "By category 0 of 1 differ; 1 undecided." in text
    assert "One training seed" in text


def test_a_published_figure_of_another_definition_is_marked() -> None:
    assert "every spelling" in other_definitions(study())["bias_score"]
    assert other_definitions(study("published")) == {}


def alignment_sentence(rows: list[dict[str, Any]]) -> str:
    """What the report says of a study that has alignment rows and nothing else."""
    tables = {
        "alignment": pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA),
        "associations": pl.DataFrame(schema=ASSOCIATIONS_SCHEMA),
        "arms": pl.DataFrame(schema=ARMS_SCHEMA),
        "comparisons": pl.DataFrame(schema=COMPARISONS_SCHEMA),
    }
    (text,) = answers(study(), tables)["lead"]
    return text


def test_two_profiles_that_pass_do_not_show_that_the_alignment_took() -> None:
    rows = [
        {
            "arm": "vim", "profile": f"p{skill}", "strategy": "input-only", "reading": "text", "value": 0.05,
            "constant_nmse": 0.18, "skill": skill, "correlation": 0.95, "retrieved": True, "verdict": "took",
        }
        for skill in (1.0, 0.52)
    ]  # fmt: skip
    text = alignment_sentence(rows)
    assert (
        "took for most profiles, but the mean skill is not shown to be above 0: 2 of 2 profiles pass"
        in text
    )
    assert "0.76 [-2.29 to 1.00]" in text


def test_the_verdict_on_an_alignment_comes_with_three_figures_and_their_intervals() -> None:
    rows = [
        {
            "arm": "vim", "profile": f"p{n}", "strategy": "input-only", "reading": "text", "value": 0.05,
            "constant_nmse": 0.09, "skill": 0.4 + n / 50, "correlation": 0.7 + n / 100, "retrieved": n != 0,
            "verdict": "took" if n else "partly",
        }
        for n in range(10)
    ]  # fmt: skip
    text = alignment_sentence(rows)
    assert "The alignment of vim took: 9 of 10 profiles pass" in text
    assert "mean skill over the best constant answer 0.49 [0.45 to 0.53]" in text
    assert "mean correlation of centred ratings 0.74 [0.72 to 0.77]" in text
    assert "the own target is the nearest for 9 of 10 [59.6 % to 98.2 %]" in text
    assert "Mean NMSE 0.05, that of the best constant answer 0.09." in text
