"""Tests of `unharm.executors.ray_cluster`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.executors_helpers import small
from unharm.core.errors import UserError
from unharm.runs.pipeline import run_study


def test_no_cluster_at_the_address(tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'unharm[ray]'")
    study = small(tiny_base, tmp_path / "run", executor={"name": "ray", "address": "127.0.0.1:1"})
    with pytest.raises(UserError, match=r"no Ray cluster at 127.0.0.1:1") as error:
        run_study(study)
    assert "ray start --head" in str(error.value)


def test_without_ray_the_command_that_installs_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unharm.executors import ray_cluster as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="Ray is not installed") as error:
        run_study(small(tiny_base, tmp_path / "run", executor={"name": "ray"}))
    assert "pip install 'unharm[ray]'" in str(error.value)
