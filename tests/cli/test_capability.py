"""Tests of the command `unharm capability`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from unharm.core.errors import UserError
from unharm.runs.tools import capability


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-evaluation-harness is installed")
def test_without_the_harness_one_command_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs lm-evaluation-harness") as caught:
        capability.capability(None, ["quiz"], tmp_path, None)  # type: ignore[arg-type]  # no run is opened
    assert "pip install 'unharm[capability]'" in str(caught.value)
