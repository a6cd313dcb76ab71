"""The sweep of `unharm train --sweep`."""

from __future__ import annotations

import json
from dataclasses import asdict

from unharm.core.terminal import tell


def sweep_study(
    study: str,
    overrides: list[str] | None,
    executor: str | None,
    sweeps: list[str],
    profiles: list[str] | None,
    as_json: bool,
) -> None:
    """Try settings of `training.vim` and print which one aligns the base.

    Args:
        study: The study file, or `quickstart`.
        overrides: Assignments of `--set`.
        executor: Overrides `executor.name`.
        sweeps: Arguments such as `lr=1e-4,3e-4`; several make a grid.
        profiles: Profiles to train on; None for the two that lie farthest apart.
        as_json: Print the rows as one line of JSON.
    """
    from unharm.runs.tools.sweep import parse_points, sweep
    from unharm.runs.tools.sweep_result import advice, best_of, sweep_text
    from unharm.study.check import load_study

    by_option = [f"executor.name={executor}"] if executor else []
    loaded = load_study(study, [*(overrides or []), *by_option])
    rows = list(sweep(loaded, parse_points(sweeps), profiles))
    best = best_of(rows)
    if as_json:
        result = {
            "rows": [asdict(row) for row in rows],
            "best": best and best.point,
            "advice": advice(rows),
        }
        tell(json.dumps(result))
    else:
        tell(sweep_text(rows))
