"""Tests of `unharm.runs.plan`."""

from __future__ import annotations

from typing import Any

from unharm.runs.plan import Plan


def test_fidelity_changes_the_keys_of_stage_two_alone(load: Any, tiny_study: dict[str, Any]) -> None:
    from unharm.runs import keys

    corrected, published = Plan(load(tiny_study)), Plan(load(tiny_study, "fidelity=published"))
    same = {
        a.stage: keys.examples_artefact(corrected, a) == keys.examples_artefact(published, a)
        for a in corrected.adapters
    }
    assert same == {"ag": True, "qa": False, "grammar": True}
