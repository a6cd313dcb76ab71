"""The worked session of docs/python.md and the example notebook run as they stand, on a smaller base."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def session(text: str, values: dict[str, Any]) -> list[Any]:
    """Run every Python block of a page, one after another, and return what their last lines give."""
    results = []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        tree = ast.parse(block)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "docs/python.md", "exec"), values)
        if isinstance(last, ast.Expr):
            results.append(eval(compile(ast.Expression(last.value), "docs/python.md", "eval"), values))
    return results


def test_the_worked_session_gives_what_the_page_says(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert text.count('"base": "toy"') == 1
    values: dict[str, Any] = {}
    results = session(text.replace('"base": "toy"', f'"base": {str(tiny_base)!r}'), values)
    seed, size, report, arms, tokens, means, sql_columns, columns, verdict_columns, rate, _ = results
    assert seed == 7
    assert size == (7, 6, 7 * 60)
    assert report == "report.html"
    assert arms["arm"].to_list() == ["vanilla", "icl", "vim"]
    assert set(tokens["profile"]) == {"power", "benevolence", "security"}
    assert set(means["arm"]) == {"vanilla", "icl", "vim"}
    assert sql_columns == ["arm", "mean"]
    assert columns == [
        "arm",
        "profile",
        "strategy",
        "seed",
        "sample",
        "text",
        "status",
        "offline-harmfulness",
    ]
    assert verdict_columns == ["arm", "strategy", "benchmark", "metric", "category"]
    assert rate == 5e-3
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


def test_the_example_notebook_runs(tiny_base: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    text = (ROOT / "examples" / "first_study.ipynb").read_text(encoding="utf-8")
    changed = text.replace(json.dumps('BASE = "toy"')[1:-1], json.dumps(f"BASE = {str(tiny_base)!r}")[1:-1])
    assert changed != text
    notebook = nbformat.reads(changed, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    shown = json.dumps(outputs)
    assert "adapters" in shown  # progress is shown in the cell
    assert "vim" in shown
    assert not [o for o in outputs if o["output_type"] == "error"]
