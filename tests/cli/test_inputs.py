"""Tests of `unharm.cli.inputs`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_commands(tmp_path: Path) -> None:
    def unharm(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "unharm", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert len(json.loads(unharm("profiles", "list", "quickstart", "--json").stdout)) == 14
    assert "14 profiles" in unharm("profiles", "list", "quickstart").stdout
    assert "█" in unharm("profiles", "show", "quickstart", "power", "--svg", "p.svg").stdout
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert "difference" in unharm("profiles", "compare", "quickstart", "power", "hedonism").stdout
    wrong = unharm("profiles", "show", "quickstart", "powr")
    assert (wrong.returncode, "did you mean 'power'?" in wrong.stderr) == (2, True)
    assert json.loads(unharm("corpus", "audit", "quickstart", "--json").stdout)["stand_in"] is True
    assert unharm("corpus", "audit", "quickstart", "--scorer", "x").returncode == 2
