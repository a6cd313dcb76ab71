"""How the package is built: layers without circles, executors without stages, no one else's private names."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import structure

PACKAGE = ROOT / "src" / "unharm"
MODULES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = {
    "config._attn_implementation": "transformers has no public name for the attention of a loaded model",
    "os._exit": "documented by Python, in spite of its name: a worker ends without cleaning up",
    "ray._private": "Ray has no public switch for the log lines of its nodes, nor a check of an address",
    "worker._worker_logs_enabled": "the same switch",
}
"""Underscore attributes of objects of other packages, and why each is used."""


def private_attributes(tree: ast.AST) -> Iterator[str]:
    """Attributes with a leading underscore, and `__dict__`, of anything but `self` and `cls`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        is_special = node.attr.startswith("__") and node.attr.endswith("__") and node.attr != "__dict__"
        if node.attr == "__dict__" or not (is_own or is_special):
            yield f"{ast.unparse(node.value).rpartition('.')[2]}.{node.attr}"


def literals(tree: ast.AST) -> set[str]:
    """The string literals of a module that are not docstrings of any kind."""
    loose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in loose
    }


def test_no_module_is_in_a_circle() -> None:
    assert structure.circles(structure.module_graph()) == []


def test_the_longest_chain_between_folders_is_short() -> None:
    folders = structure.folder_graph(structure.module_graph())
    assert structure.circles(folders) == []
    assert len(structure.longest_chain(folders)) <= 10


def test_the_top_of_the_package_is_not_crowded() -> None:
    entries = [p.name for p in PACKAGE.iterdir() if not p.name.startswith("__pycache__")]
    assert len(entries) <= 19


@pytest.mark.parametrize("path", sorted((PACKAGE / "executors").glob("*.py")), ids=lambda p: p.name)
def test_executors_name_no_stage(path: Path) -> None:
    from unharm.runs.pipeline import STAGES

    assert not literals(ast.parse(path.read_text(encoding="utf-8"))) & set(STAGES)


def test_no_underscore_name_of_another_object_is_used() -> None:
    used = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in MODULES
        for name in private_attributes(ast.parse(path.read_text(encoding="utf-8")))
        if name not in ALLOWED
    }
    assert used == set()


def test_the_check_for_private_names_sees_them() -> None:
    text = "a._x = self._y + b.c.__dict__['d'] + e.__name__"
    assert set(private_attributes(ast.parse(text))) == {"a._x", "c.__dict__"}
