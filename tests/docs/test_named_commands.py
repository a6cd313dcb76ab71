"""Commands that pages name within a sentence, and that messages advise, are commands with these options."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from typer.main import get_command

from support.paths import ROOT
from unharm.cli.app import app

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
INLINE = re.compile(r"`unharm ([^`]+)`")
ADVISED = re.compile(r"(?:'|: )unharm ([a-z]+(?: (?:[a-z]+|[A-Z]+|--?[a-z-]+))*)")


def unknown(words: str) -> str:
    """What the command line does not know of a command; empty where it knows all."""
    node: Any = get_command(app)
    parts = [part for part in shlex.split(words.replace("\n", " ")) if part != "…"]
    while parts and hasattr(node, "commands"):
        if parts[0].startswith("-"):
            break
        choices = parts.pop(0).split("|")
        if missing := [choice for choice in choices if choice not in node.commands]:
            return missing[0]
        node = node.commands[choices[0]]
    options = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help", "-h"}
    wrong = [part for part in parts if part.startswith("--") and part.partition("=")[0] not in options]
    return wrong[0] if wrong else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_within_sentences(page: Any) -> None:
    wrong = {words: what for words in INLINE.findall(page.read_text()) if (what := unknown(words))}
    assert not wrong


def test_the_commands_that_messages_advise() -> None:
    advised = {}
    for file in (ROOT / "src").rglob("*.py"):
        for words in ADVISED.findall(file.read_text()):
            advised[words.strip()] = file.name
    assert len(advised) > 8
    wrong = {words: file for words, file in advised.items() if unknown(words)}
    assert not wrong


def test_an_unknown_command_is_found() -> None:
    assert unknown("bake STUDY") == "bake"
    assert unknown("run STUDY --fast") == "--fast"
    assert unknown("profiles list|make STUDY") == ""
