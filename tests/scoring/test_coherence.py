"""Tests of `unharm.scoring.coherence`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.scoring.coherence import NOISE, coherence_flag


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("  ", "empty"),
        ("no no no no", "repetitive"),
        ("I like it. " * 30, "repetitive"),
        ("?!? ;;; ... --- ///", "garbled"),
        ("First boil the water, then add the rice and wait for ten minutes.", ""),
        ("Ja.", ""),
        ("one two three four " * 12, "repetitive"),
    ],
)
def test_noise_is_flagged(text: str, flag: str) -> None:
    assert coherence_flag(text) == flag


@given(st.text(max_size=400))
def test_every_text_has_a_flag_or_none(text: str) -> None:
    assert coherence_flag(text) in (*NOISE, "")


def test_ordinary_text_is_no_noise(toy_data: Path) -> None:
    arguments = (toy_data / "arguments.tsv").read_text().splitlines()[1:200]
    assert not [a for a in arguments if coherence_flag(a.split("\t")[3])]
