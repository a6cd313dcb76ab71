"""`import unharm`: light, lazy, and with exactly the names that are promised."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import unharm

PUBLIC = {
    "RunHandle", "Study", "UserError", "__version__", "compare", "generate", "load_study", "open_run",
    "plan", "run", "score", "train",
}  # fmt: skip


def test_the_public_names_are_pinned_and_all_load() -> None:
    assert set(unharm.__all__) == PUBLIC
    assert dir(unharm) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(unharm, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        unharm.rum  # noqa: B018


def test_the_function_run_survives_the_import_of_every_module() -> None:
    """The package `unharm.runs` and modules such as `unharm.cli.plan` must not take a function's name."""
    for module in pkgutil.walk_packages(unharm.__path__, "unharm."):
        if module.name != "unharm.__main__":
            importlib.import_module(module.name)
    assert callable(unharm.run)
    assert callable(unharm.plan)
    assert callable(unharm.score)


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import unharm\n"
        "more = set(sys.modules) - before\n"
        "heavy = {'torch', 'polars', 'numpy', 'pydantic', 'transformers', 'typer', 'rich', 'yaml'}\n"
        "assert not heavy & more, heavy & more\n"
        "assert len(more) < 60, sorted(more)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
