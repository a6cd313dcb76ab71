"""The worked example in the docstring of `engines/rows.py`."""

from __future__ import annotations

import pytest
import torch

from unharm.engines import rows as rows_module
from unharm.engines.kv_cache import ForwardPass
from unharm.engines.prompt_groups import PromptGroup, Sample
from unharm.engines.requests import Request, Sampling, Task
from unharm.engines.rows import Rows

P, Q, X, Y, Z, END = 1, 2, 3, 4, 5, 6


def test_three_samples_share_a_row_until_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([[X, X, X], [Y, Y, Z], [X, X, END]])
    monkeypatch.setattr(rows_module, "pick", lambda *_: torch.tensor(next(drawn)))
    rows = Rows(torch.device("cpu"))
    task = Task("example", (), Sampling(8, 0.5, 1.0))
    requests = [Request(str(n), "p", n, "p q", n) for n in range(3)]

    def ended(sample: Sample) -> str:
        return "end" if sample.tokens[-1] == END else ""

    def write(forward_pass: ForwardPass, tokens: torch.Tensor) -> None:
        states = tokens[0, :, None].float()[None, None]
        forward_pass.write(0, states, states)

    def followers() -> list[list[int]]:
        return [[s.request.sample for s in rows.samples if s.row == n] for n in range(rows.count)]

    def texts() -> list[list[int]]:
        keys = rows.cache.layers[0][0]
        return [
            [*map(int, keys[n, 0, :length, 0]), rows.tokens[n]] for n, length in enumerate(rows.lengths)
        ]

    def decode() -> list[int]:
        forward_pass, tokens = rows.next_pass()
        write(forward_pass, tokens)
        rows.mark_written()
        return [s.request.sample for s, _ in rows.advance(0, torch.zeros(rows.count, 8), ended)]

    forward_pass, tokens, _ = rows.add([PromptGroup(task, requests, [P, Q], 0, "")])
    write(forward_pass, tokens)
    assert followers() == [[0, 1, 2]]
    rows.advance(0, torch.zeros(1, 8), ended)
    assert (followers(), texts()) == ([[0, 1, 2]], [[P, Q, X]])
    assert decode() == []
    assert (followers(), texts()) == ([[0, 1], [2]], [[P, Q, X, Y], [P, Q, X, Z]])
    assert decode() == [2]
    assert (followers(), texts()) == ([[0, 1]], [[P, Q, X, Y, X]])
