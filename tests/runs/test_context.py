"""Tests of `unharm.runs.context`."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_a_job_holds_no_secret(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    served = {"server": {"url": "http://127.0.0.1:1/v1", "model": "m", "key": "MY_KEY"}}
    study = load(tiny_study | {"arms": ["served:server"], "served": served})
    assert "sk-secret" not in json.dumps(study.model_dump(mode="json"))
