"""Tests of `unharm.scoring.registry`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.runs.pipeline import run_study


def test_every_missing_key_is_told_before_anything_starts(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    server = {"url": "http://127.0.0.1:9/v1", "key": "JUDGE_KEY"}
    tiny_study["scorers"] = {
        "p": {"kind": "perspective"},
        "j": {"kind": "judge", "model": "m", "server": server},
    }
    tiny_study["benchmarks"]["rtp"]["scorer"] = "p"
    tiny_study["benchmarks"]["hexphi"]["scorer"] = "j"
    with pytest.raises(UserError) as error:
        run_study(load(tiny_study))
    assert "PERSPECTIVE_API_KEY" in str(error.value)
    assert "JUDGE_KEY" in str(error.value)
    assert not Path(tiny_study["output"]).exists()
