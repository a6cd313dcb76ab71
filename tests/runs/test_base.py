"""Tests of `unharm.runs.base`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.executors_helpers import small
from unharm.core.errors import UserError
from unharm.runs.base import Base


def test_a_base_that_differs_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unharm.runs import base

    study = small(tiny_base, tmp_path / "run")
    there = Base("b", tmp_path / "not here", "another key")
    with pytest.raises(UserError, match="differs from the base on the machine"):
        base.same_base(there, study)
    here = base.resolve_base(study)
    assert base.same_base(here, study) == here
