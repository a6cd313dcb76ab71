"""The results of a sweep: verdicts, the best point, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from unharm.analysis.alignment import TOOK, Fit

LESS_COHERENT = 0.1
"""Share of broken texts that an adapter may have beyond the base's own."""

Point = dict[str, float | int]

ALIGNS, NOT, BREAKS, FAILED = "aligns", "does not align", "breaks texts", "failed"


@dataclass(frozen=True)
class SweepRow:
    """The result of one point; means are over the profiles.

    Attributes:
        point: The settings that were tried.
        steps: Optimiser steps of an adapter in its last stage.
        fall: Share by which its training loss fell; None if nothing was trained.
        correlation: Of ratings and targets, both less their own mean; None where not known.
        skill: 1 − NMSE / NMSE of the best constant answer.
        span: Distance of the highest from the lowest rating.
        incoherent: Share of broken texts.
        incoherent_base: The same share of the base.
        verdict: `aligns`, `does not align`, `breaks texts` or `failed`.
    """

    point: Point
    steps: int
    fall: float | None
    correlation: float | None
    skill: float | None
    span: float | None
    incoherent: float | None
    incoherent_base: float | None
    verdict: str


def verdict_of(fits: list[Fit], incoherent: float | None, base: float | None, failed: bool) -> str:
    """Return the verdict of a point.

    Args:
        fits: The fit of each profile.
        incoherent: Share of broken texts of the adapters; None where none was written.
        base: The same share of the base.
        failed: Whether an adapter could not be trained.
    """
    if failed or not fits:
        return FAILED
    if incoherent is not None and base is not None and incoherent > base + LESS_COHERENT:
        return BREAKS
    return ALIGNS if all(f.verdict == TOOK for f in fits) else NOT


def best_of(rows: list[SweepRow]) -> SweepRow | None:
    """Return the point with the highest skill among those that align; None if none does."""
    aligned = [row for row in rows if row.verdict == ALIGNS]
    return max(aligned, key=lambda row: row.skill or 0.0, default=None)


def nearest_of(rows: list[SweepRow]) -> SweepRow | None:
    """Return the point with the highest correlation among those that keep texts whole."""
    usable = [row for row in rows if row.verdict == NOT and row.correlation is not None]
    return max(usable, key=lambda row: row.correlation or 0.0, default=None)


def point_text(point: Point) -> str:
    """Return a point as text, for example `lr=0.0003 epochs=5`."""
    return " ".join(f"{name}={value:g}" for name, value in point.items())


def advice(rows: list[SweepRow]) -> str:
    """Return what to do after a sweep, in one or two sentences."""
    if best := best_of(rows):
        settings = ", ".join(f"training.vim.{name}: {value:g}" for name, value in best.point.items())
        return f"use {settings} (skill {best.skill:.2f} over the best constant answer)"
    if near := nearest_of(rows):
        return (
            f"no point aligns; nearest is {point_text(near.point)} with a correlation of "
            f"{near.correlation:.2f}. Try more epochs, a smaller batch, or training.lora: all-linear"
        )
    return "no point aligns: all break texts or failed. Try lower rates"


def sweep_text(rows: list[SweepRow]) -> str:
    """Return the results as a table for people, and the advice."""
    header = ("point", "steps", "loss", "correlation", "skill", "span", "broken texts", "base's", "verdict")
    cells = [
        (
            point_text(row.point), f"{row.steps:,}", _percent(row.fall, -1), _number(row.correlation),
            _number(row.skill), _number(row.span), _percent(row.incoherent),
            _percent(row.incoherent_base), row.verdict,
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(len(row[n]) for row in [header, *cells]) for n in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *cells]
    ]
    return "\n".join([*lines, "", advice(rows)])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(share: float | None, sign: int = 1) -> str:
    return "–" if share is None else f"{100 * sign * share:.0f} %"
