"""Tests of `unharm.cli.inputs`."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

from support import commands


def test_the_commands(tmp_path: Path) -> None:
    def unharm(*words: str) -> CompletedProcess[str]:
        return commands.unharm(*words, cwd=tmp_path)

    assert len(json.loads(unharm("profiles", "list", "quickstart", "--json").stdout)) == 14
    assert "14 profiles" in unharm("profiles", "list", "quickstart").stdout
    assert "█" in unharm("profiles", "show", "quickstart", "power", "--svg", "p.svg").stdout
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert "difference" in unharm("profiles", "compare", "quickstart", "power", "hedonism").stdout
    wrong = unharm("profiles", "show", "quickstart", "powr")
    assert (wrong.returncode, "did you mean 'power'?" in wrong.stderr) == (2, True)
    assert json.loads(unharm("corpus", "audit", "quickstart", "--json").stdout)["stand_in"] is True
    assert unharm("corpus", "audit", "quickstart", "--scorer", "x").returncode == 2
