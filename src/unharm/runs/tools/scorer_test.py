"""Test a scorer on the small set of truth: how often it finds what it should, and what it should not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unharm.analysis.intervals import share_interval
from unharm.analysis.measures import TOXIC
from unharm.analysis.scorer_error_tables import HARMFUL_FROM
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError, nearest
from unharm.core.records import Completion, Prompt, Score
from unharm.runs.context import new_run
from unharm.scoring import SCORERS
from unharm.scoring.coherence import NOISE, coherence_flag
from unharm.scoring.registry import scorer_row
from unharm.scoring.texts import Text, text_of
from unharm.scoring.truth import (
    INCOHERENT,
    LABELS,
    REFUSING,
    RUDE,
    LabelledCompletion,
    labelled_completions,
)
from unharm.study.check import load_study

POSITIVE = {"refusal": REFUSING} | dict.fromkeys(
    ("toxicity", "negative_regard", "harmfulness", "flagged"), RUDE
)
"""The label that a scorer of each measure should find."""
ESTIMATES = ("sensitivity", "specificity")
COHERENCE = "coherence"
"""The name under which the check for incoherent text is tested."""


def check_scorer(name: str, study: str, overrides: list[str] | None) -> dict[str, Any]:
    """Score the labelled completions with a scorer.

    Args:
        name: A built-in scorer, one that the study defines, or `coherence`.
        study: The study that defines scorers.
        overrides: Assignments of `--set`.

    Returns:
        Plain data: `positive` (the label to find), `sensitivity` and `specificity` as estimates, `bases`:
        the same by the base that wrote the completions, and `labels`: for each label how many completions
        there are, have a score, and are positive.

    Raises:
        UserError: There is no such scorer, or it measures nothing that the labels tell.
    """
    rows = labelled_completions()
    if name == COHERENCE:
        noise = [coherence_flag(row.answer) in NOISE for row in rows]
        return _result(name, "", False, INCOHERENT, rows, noise, 0.95)
    loaded = load_study(study, overrides)
    known = [n for n in (*SCORERS, *loaded.scorers) if scorer_row(loaded.scoring, n).measures in POSITIVE]
    if name not in known:
        raise UserError(
            f"{name!r} is no scorer that the labels test", "NAME", nearest(name, [*known, COHERENCE])
        )
    row = scorer_row(loaded.scoring, name)
    with new_run(loaded) as run:
        run.scorers.check([name])
        scores = run.scorers[name]([_text(r, row.reads == "text") for r in rows])
    found = [_positive(row.measures, score) for score in scores]
    confidence = loaded.analysis.confidence
    return _result(
        name, row.version, row.stand_in, POSITIVE[row.measures], rows, found, confidence
    )  # fmt: skip


def _text(row: LabelledCompletion, prepared: bool) -> Text:
    """The text that a scorer reads, as the row's benchmark prepares it."""
    completion = Completion(row.id, row.id, 0, row.answer, "stop", 0, 0)
    prompt = Prompt(row.id, row.prompt, attributes={"group": row.group})
    return text_of(BENCHMARKS[row.benchmark].scored_text if prepared else "answer", prompt, completion)


def _positive(measure: str, score: Score) -> bool | None:
    if score.value is None:
        return None
    return score.value >= (TOXIC if measure == "toxicity" else HARMFUL_FROM.get(measure, 1.0))


def _result(
    name: str,
    version: str,
    stand_in: bool,
    positive: str,
    rows: Sequence[LabelledCompletion],
    found: Sequence[bool | None],
    confidence: float,
) -> dict[str, Any]:
    def share(wanted: bool, labels: Sequence[str], base: str = "") -> dict[str, Any]:
        here = [f for r, f in zip(rows, found, strict=True) if r.label in labels and base in ("", r.base)]
        scored = [f for f in here if f is not None]
        hits, unscored = sum(f == wanted for f in scored), len(here) - len(scored)
        return asdict(share_interval(hits, len(scored), confidence, "completion", unscored))

    others = [label for label in LABELS if label != positive]
    bases = dict.fromkeys(row.base for row in rows)
    return {
        "scorer": name,
        "scorer_version": version,
        "stand_in": stand_in,
        "positive": positive,
        "sensitivity": share(True, [positive]),
        "specificity": share(False, others),
        "bases": {
            base: {"sensitivity": share(True, [positive], base), "specificity": share(False, others, base)}
            for base in bases
        },
        "labels": {label: share(True, [label]) for label in LABELS},
    }


def check_text(result: dict[str, Any]) -> str:
    """Return the result as a table."""
    mark = " (a stand-in)" if result["stand_in"] else ""
    version = f" {result['scorer_version']}" if result["scorer_version"] else ""
    count = sum(row["n"] + row["unscored"] for row in result["labels"].values())
    estimates = {name: result[name] for name in ESTIMATES}
    for base, both in result["bases"].items():
        estimates |= {f"  {name}, {base}": both[name] for name in ESTIMATES}
    lines = [
        f"{result['scorer']}{version}{mark} on {count} labelled completions; "
        f"it should find: {result['positive']}",
        f"  {'label':22}{'scored':>8}{'unscored':>10}{'found':>9}   95 % interval",
    ]
    for label, row in [*result["labels"].items(), *estimates.items()]:
        lines.append(f"  {label:22}{row['n']:>8}{row['unscored']:>10}{_share(row)}")
    return "\n".join(lines)


def _share(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return f"{'–':>9}"
    return f"{100 * row['value']:>7.1f} %   {100 * row['low']:.1f} to {100 * row['high']:.1f}"
