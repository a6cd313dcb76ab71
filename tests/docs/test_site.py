"""The documentation builds as a site, without a network and without a warning. Skipped without mkdocs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.paths import ROOT


def test_the_tutorial_has_the_first_commands_of_the_readme() -> None:
    """The README shows them as they are run by the test of the tutorial, but for names."""
    block = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    for line in block.splitlines():
        command = (
            line.partition("   #")[0]
            .strip()
            .replace("runs/mine", "runs/tutorial")
            .replace("mine/", "tutorial/")
        )
        assert command in tutorial


def test_the_site_builds_without_a_warning_or_another_host(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra 'docs' is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    pages = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_text()
        for path in tmp_path.rglob("*.html")
    }
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {Path(name).stem for name in pages}
    assert "open_run" in pages["api.html"]
    for name, text in pages.items():
        assert not re.search(r"""(?:src=|<link[^>]+stylesheet[^>]+href=)["']?https?://""", text), name
