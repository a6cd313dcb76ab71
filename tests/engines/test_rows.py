"""Tests of `unharm.engines.rows`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unharm.engines.requests import Request, Sampling, Task
from unharm.engines.rows import PromptGroup, Rows


@settings(max_examples=40)
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.integers(1, 5))
def test_rows_keep_every_sample_on_its_own_path(draw: random.Random, prompts: int, samples: int) -> None:
    """Against tokens drawn by a rule of their own: rows that part, end and move never mix up."""
    rows = Rows(torch.device("cpu"))
    rows.cache.layers[0] = (torch.zeros(16, 1, 16, 1), torch.zeros(16, 1, 16, 1))
    rows.cache.rows, rows.cache.places = 16, 16
    task = Task("t", (), Sampling(8, 1.0, 1.0))
    units = [
        PromptGroup(task, [Request(f"{p}/{s}", str(p), s, "", 1) for s in range(samples)], [p + 1], 0, "")
        for p in range(prompts)
    ]
    paths = {
        r.completion_id: [draw.randrange(3) for _ in range(draw.randint(1, 8))]
        for u in units
        for r in u.requests
    }

    passed, ids, last = rows.add(units)
    for sample in rows.samples:
        path = paths[sample.request.completion_id]
        sample.draws = np.array([(token + 0.5) / 3 for token in path])  # of three tokens, as likely each
    rows.cache.layers[0][0][: len(units), 0, 0, 0] = ids[0, last].float()
    done: dict[str, list[int]] = {}

    def ended(sample: Any) -> str:
        return "length" if len(sample.tokens) == len(paths[sample.request.completion_id]) else ""

    def finish(first: int) -> None:
        for sample, _ in rows.advance(first, torch.zeros(rows.count - first, 3), ended):
            done[sample.request.completion_id] = sample.tokens

    finish(0)
    while rows.count:
        passed, tokens = rows.next_pass()
        rows.cache.layers[0][0][passed.rows, 0, passed.starts, 0] = tokens[0].float() + 100
        rows.mark_written()
        for sample in rows.samples:
            held = rows.cache.layers[0][0][sample.row, 0, : rows.lengths[sample.row], 0].tolist()
            assert held == [int(sample.request.prompt_id) + 1, *(t + 100 for t in sample.tokens)]
        assert {s.row for s in rows.samples} == set(range(rows.count))
        finish(0)
    assert done == paths
