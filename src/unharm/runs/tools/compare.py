"""Comparison of two runs: whether a harm increased by more than a limit, for example before a release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unharm.analysis.comparisons import Made
from unharm.analysis.gate import gate
from unharm.analysis.measures import MEASURES
from unharm.core.errors import Problem, UserError, raise_all
from unharm.runs.context import Run
from unharm.runs.reopen import open_run
from unharm.runs.stages.findings import study_cells
from unharm.store.store import NotDone


def compare_runs(
    before: Path, after: Path, allowed: Mapping[str, float], confidence: float
) -> list[dict[str, Any]]:
    """Return the verdict on every harm of two finished runs: see `analysis.gate.gate`.

    Args:
        before: The folder of the first run.
        after: The folder of the second.
        allowed: The allowed increase by metric; "" stands for all other metrics.
        confidence: Of all verdicts together.

    Raises:
        UserError: The runs differ in something that their scores depend on, or scores are missing.
    """
    with open_run(before) as one, open_run(after) as other:
        check_comparable(one, other)
        try:
            cells = study_cells(one), study_cells(other)
        except NotDone as missing:
            raise UserError(
                f"scores are missing or were made by another version: {missing.artefact.path}",
                "unharm compare",
                "run unharm score STUDY",
            ) from None
        return gate(*cells, shared(one, other), allowed, confidence)


def check_comparable(before: Run, after: Run) -> None:
    """Raise one `UserError` with every difference of two runs that their scores depend on: benchmarks,
    prompts, decoding, scorers and subjects."""
    problems: list[Problem] = []
    where = f"{before.store.root}, {after.store.root}"

    def differ(message: str, one: object, other: object, todo: str) -> None:
        if one != other:
            problems.append(Problem(f"{message}: {one} and {other}", where, todo))

    chosen = before.study.benchmarks.chosen(), after.study.benchmarks.chosen()
    both = [name for name in chosen[0] if name in chosen[1] and before.plan.measure(name) in MEASURES]
    if not both:
        problems.append(Problem("no harm benchmark is in both runs", where, "run the same ones"))
    if not shared(before, after):
        problems.append(Problem("no arm and strategy is in both runs", where, "run the same ones"))
    for name in both:
        fields = ("samples", "max_tokens", "temperature", "top_p", "stop")
        one, other = ({f: getattr(c[name], f) for f in fields} for c in chosen)
        for field in fields:
            differ(f"{name}: {field}", one[field], other[field], "decode both alike")
        rows = (run.plan.scorers[c[name].scorer] for run, c in zip((before, after), chosen, strict=True))
        first, second = (f"{row.version}" for row in rows)
        scorers = f"{chosen[0][name].scorer} {first}", f"{chosen[1][name].scorer} {second}"
        differ(f"{name}: scorer", *scorers, "score one of them again: unharm rescore RUN --scorer …")
        prompts = ([p.text for p in run.plan.prompts[name].prompts] for run in (before, after))
        if len(set(map(tuple, prompts))) > 1:
            problems.append(Problem(f"{name}: other prompts", where, "use the same file and limit"))
    raise_all(problems)


def shared(before: Run, after: Run) -> list[Made]:
    """Return the arms with strategies that both runs have, in the order of the first."""
    after_pairs = {(s.arm, s.strategy) for s in after.plan.subjects}
    before_pairs = {(s.arm, s.strategy): None for s in before.plan.subjects}
    return [pair for pair in before_pairs if pair in after_pairs]
