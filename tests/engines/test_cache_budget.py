"""Keys and values never take more than their budget, whatever the lengths and numbers of rows."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.engine_helpers import never, requests
from unharm.engines.cache_budget import CacheDemand, option_passes
from unharm.engines.hf import HfEngine
from unharm.engines.kv_cache import KeyValueCache
from unharm.engines.prompt_groups import PromptGroup
from unharm.engines.requests import Request, Sampling, Task, generate, identify

LIVELY = Sampling(10, 0.9, 0.95)
OPENING = "What matters to me: power 6, security 1, tradition 2. " * 3


class Watch:
    """Follows the places of all caches that are alive."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.alive: weakref.WeakSet[KeyValueCache] = weakref.WeakSet()
        self.most = 0
        begin, reserve = KeyValueCache.__init__, KeyValueCache.reserve

        def note_new(cache: KeyValueCache, limit: int | None = None) -> None:
            begin(cache, limit)
            self.alive.add(cache)

        def note_size(cache: KeyValueCache, rows: int, places: int) -> None:
            reserve(cache, rows, places)
            self.most = max(self.most, sum(c.size for c in self.alive))

        patch.setattr(KeyValueCache, "__init__", note_new)
        patch.setattr(KeyValueCache, "reserve", note_size)


prompts = st.lists(
    st.tuples(
        st.sampled_from([1, 9, 40]),  # words
        st.integers(1, 4),  # samples
        st.booleans(),  # begins with the shared opening
        st.sampled_from(["", " 1| 2| 3"]),  # options
    ),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("exact", [False, True])
@given(prompts=prompts, tokens=st.sampled_from([1, 5]), room=st.integers(0, 1500))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_caches_keep_their_budget(
    exact: bool, parts: tuple[Any, Any], prompts: list[tuple[int, int, bool, str]], tokens: int, room: int
) -> None:
    wanted = []
    for place, (words, samples, opened, options) in enumerate(prompts):
        text = (OPENING if opened else "") + f"{place} " + "word " * words
        for sample in range(samples):
            identity, seed = identify("s", "b", str(place), sample, 1)
            prefix = len(OPENING) if opened else 0
            chosen = tuple(o for o in options.split("|") if o)
            wanted.append(Request(identity, str(place), sample, text, seed, prefix, options=chosen))
    task = Task("t", tuple(wanted), Sampling(tokens, 1.2, 1.0))

    def made(limit: int | None) -> tuple[dict[str, Any], int]:
        engine = HfEngine(*parts, "base", 64, exact=exact)
        engine._attention_checked = True
        if limit is not None:
            engine._cache_limit = limit
        with pytest.MonkeyPatch.context() as patch:
            watch = Watch(patch)
            done = {c.completion_id: (c.text, c.options) for _, c in engine.complete([task], never)}
        return done, watch.most

    largest = max(made_alone(parts, exact, [r for r in wanted if r.prompt_id == str(n)], tokens)
                  for n in range(len(prompts)))  # fmt: skip
    limit = largest + room
    bounded, most = made(limit)
    assert most <= limit
    assert len(bounded) == len(wanted)
    if exact:
        assert bounded == made(None)[0]


def test_a_prompt_that_alone_exceeds_the_budget_is_completed(parts: tuple[Any, Any]) -> None:
    expected = generate(HfEngine(*parts, "base", 64), requests(4), LIVELY)
    engine = HfEngine(*parts, "base", 64)
    engine._cache_limit = 1
    assert generate(engine, requests(4), LIVELY) == expected


def made_alone(parts: tuple[Any, Any], exact: bool, wanted: list[Request], tokens: int) -> int:
    """Return the places that one prompt needs at most: no budget can be below."""
    engine = HfEngine(*parts, "base", 64, exact=exact)
    group = engine._prompt_groups(Task("t", tuple(wanted), Sampling(tokens, 1.2, 1.0)))[0]
    return CacheDemand(0, 0, 0, 16 if exact else 1).plus(group, engine._prefix_key(group)).places


def test_a_cache_gives_up_rows_for_places() -> None:
    """Few long rows after many short ones: not the most of both."""
    cache = KeyValueCache(limit=2048)
    cache.reserve(60, 20)
    key = torch.arange(float(cache.size)).view(cache.rows, 1, cache.places, 1)
    stored = cache.layer_tensors(0, key, key)[0].copy_(key).clone()
    assert (cache.rows, cache.places) == (60, 32)
    cache.reserve(3, 500)
    assert (cache.rows, cache.places) == (4, 512)
    assert torch.equal(cache.layers[0][0][:3, :, :32], stored[:3])
    cache.reserve(16, 100)
    assert cache.rows >= 16
    assert cache.places >= 100
    assert cache.size <= 2048
    free = KeyValueCache()
    free.reserve(3, 500)
    free.reserve(60, 20)
    assert free.places == 512
    assert free.rows >= 60


def test_options_are_read_in_parts_that_fit() -> None:
    task = Task("t", (), Sampling(4, 0.0, 1.0))
    groups = [PromptGroup(task, [], list(range(40)), 0, "") for _ in range(5)]
    for group in groups:
        group.answers = [[*group.ids, 7, n] for n in range(3)] + [[*group.ids, 8, n] for n in range(3)]
    assert [len(group.option_rows) for group in groups] == [2] * 5
    assert [len(part) for part in option_passes(groups, 5 * 64)] == [2, 2, 1]
    assert [len(part) for part in option_passes(groups, 1)] == [1] * 5
    assert option_passes([], 100) == []
