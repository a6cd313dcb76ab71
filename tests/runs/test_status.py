"""Tests of `unharm.runs.status`."""

from __future__ import annotations

from pathlib import Path

import pytest

from unharm.core.errors import UserError
from unharm.runs.status import status


def test_status_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in this folder"):
        status(str(tmp_path))
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        status(str(tmp_path))
