"""Right inputs with wrong pieces in them: every parser reads them or refuses them in words.

`UNHARM_FUZZ=2000` tries more of them; `tools/fuzz.py` searches without end, guided by coverage.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.parsers import PARSERS, harmless, seeds
from unharm.core.errors import UserError

EXAMPLES = int(os.environ.get("UNHARM_FUZZ", "20"))
SLOW = ("base", "workbook")
"""Parsers that take a second for each input; the script has them."""

PIECES = (
    "\x1b[2J", "\u202e", "\0", "\\0", "\\ud800", "\\e[31m", "\n", "\r", "\t", '"', "'", "''", "[", "]", "{", "}",
    "[" * 300, '{"a":' * 300, "[" * 20_000, "- " * 100, "0x" + "f" * 5000, "9" * 5000, "1e400", "-1e400", ".nan",
    ".inf", "nan", "NaN", "Infinity", "inf", "null", "~", "true", "yes", "2026-11-24", "12:30:00", "!!binary aGk=",
    "!!python/object:os.system x", "!!set {a}", "&a [*a]", "*a", "<<: ", "? ", "---\n", "{x:>9999999999}", "{a.b}",
    "{0}", "{", "%s", "=1+1", "@x", "~nobody/x", "../../x", "/dev/zero", "C:\\x", "a" * 300, "ä" * 200, "🙂", "²",
    "\ufeff", "\u2028", "\x85", ",", ";", "1_0", "-1", "0", "99999999999", "<think>", "</think>", "```json\n",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A right input with up to three pieces put in, or cut out, or in place of a word."""
    starts = seeds(kind) or [b""]
    data = draw(st.sampled_from(starts)).decode("utf-8", "replace")
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from((0, 0, 1, 4, 40)))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=4))
        data = data[:begin] + piece + data[begin + length :]
    raw = data.encode("utf-8", "surrogatepass")
    return draw(st.sampled_from((raw, raw, raw, raw[:-1], raw + b"\xff", raw.replace(b"\n", b"\r\n"))))


@pytest.mark.parametrize("kind", [kind for kind in PARSERS if kind not in SLOW])
def test_a_damaged_input_is_read_or_refused(kind: str) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, database=None)
    @given(damaged(kind))
    def check(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            message = ""
            try:
                PARSERS[kind](data, Path(folder))
            except UserError as error:
                message = str(error)
            assert harmless(message), repr(message)
            assert len(message) < 20_000

    check()


FOUND: list[tuple[str, str, str]] = [
    ("reply", "[" * 100_000, "a guard's reply of 100,000 lists"),
    ("reply", '{"violation": ' * 50_000, "a guard's reply of 50,000 objects"),
    ("reply", "unsafe\n" + "9" * 5000 + "\nreason", "a judge's category of 5,000 digits"),
    ("answer", '{"choices": [{"text": "a", "logprobs": {"top_logprobs": [{"1": 1e308}], "tokens": ["1"]}}], "usage": null}',
     "a log probability whose exponential is no number"),
    ("answer", '{"choices": [{"text": "a", "logprobs": {"top_logprobs": [{"1": NaN}], "tokens": ["1"]}}], "usage": null}',
     "a log probability that is no number"),
    ("answer", '{"choices": [{"text": "a", "logprobs": {"top_logprobs": [{"1": null}], "tokens": ["1"]}}], "usage": null}',
     "no log probability"),
    ("markers", "[" * 100_000, "a marker of 100,000 lists"),
    ("markers", '{"key": "key", "path": "../outside", "sha256": ""}', "a marker that leads out"),
    ("status", "\xff\xfe", "a status that is no text"),
    ("profiles.yaml", "2026-11-24: {}\n", "a date as name"),
    ("spec", '{"name": "a", "base": "\\ud83d\\ude42", "arms": ["vanilla"], "benchmarks": {"rtp": {"file": "a"}}}',
     "JSON that writes a character as two halves"),
]  # fmt: skip
"""What fuzzing has turned up, and no study can name; the rest is in the tables of bad inputs."""


@pytest.mark.parametrize(("kind", "text"), [pytest.param(k, t, id=what) for k, t, what in FOUND])
def test_what_fuzzing_found_is_read_or_refused(kind: str, text: str, tmp_path: Path) -> None:
    try:
        PARSERS[kind](text.encode("latin-1"), tmp_path)
    except UserError as error:
        told = str(error)
    else:
        told = "read"
    assert told == "read" or str(tmp_path) in told or "study.yaml" in told
