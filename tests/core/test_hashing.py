"""Tests of `unharm.core.hashing`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.hashing import content_hash, content_key, slug


@given(st.text(max_size=80))
def test_slug_is_one_safe_component(name: str) -> None:
    part = slug(name)
    assert part == Path(part).name
    assert part not in ("", ".", "..")
    assert part.isascii()
    assert len(part.encode()) <= 80


@given(st.lists(st.text(max_size=30), unique=True, max_size=30))
def test_different_names_get_different_folders(names: list[str]) -> None:
    assert len({slug(n).lower() for n in names}) == len(names)


@pytest.mark.parametrize("name", ["../x", "a/b", "Ana María", "..", "con espacio", "", "a\x00b", "ÄÖ"])
def test_hard_profile_names(name: str) -> None:
    assert "/" not in slug(name)
    assert slug(name) != name


def test_keys_depend_on_content_alone() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_key("s", 1, {"x": 1}, "in") != content_key("s", 2, {"x": 1}, "in")
    assert content_key("s", 1, {"x": 1}, "in") != content_key("s", 1, {"x": 1}, "other")
