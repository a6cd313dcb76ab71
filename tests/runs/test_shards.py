"""Tests of `unharm.runs.shards`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.executors_helpers import dry_run
from unharm.core.errors import UserError
from unharm.core.pace import Dry
from unharm.runs.shards import shard_of


def test_a_worker_that_sees_other_inputs_says_so(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    run = dry_run(tmp_path / "run", Dry(), load, tiny_study)
    with pytest.raises(UserError, match="sees different inputs"):
        shard_of(run, (0, "completions/of-another-key.parquet"))
