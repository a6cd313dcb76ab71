"""The worked example in the docstring of `engines/kv_cache.py`."""

from __future__ import annotations

import torch

from unharm.engines.kv_cache import ForwardPass, KeyValueCache

EMPTY = 0


def letters(cache: KeyValueCache, row: int) -> str:
    keys = cache.layers[0][0][row, 0, :4, 0].tolist()
    return "".join("." if key == EMPTY else chr(int(key)) for key in keys)


def example_cache() -> KeyValueCache:
    cache = KeyValueCache()
    cache.reserve(3, 4)
    keys = values = torch.zeros(1, 1, 1, 1)
    cached = cache.layer_tensors(0, keys, values)
    for row, text in enumerate(("ab", "cde", "fghi")):
        for tensor in cached:
            tensor[row, 0, : len(text), 0] = torch.tensor([float(ord(letter)) for letter in text])
    return cache


def test_the_last_row_is_copied_into_the_gap() -> None:
    cache = example_cache()
    assert [letters(cache, row) for row in range(3)] == ["ab..", "cde.", "fghi"]
    cache.copy_rows(torch.tensor([2]), torch.tensor([1]), 4)
    assert [letters(cache, row) for row in range(3)] == ["ab..", "fghi", "fghi"]


def test_leftover_keys_behind_a_token_are_masked() -> None:
    cache = example_cache()
    one = torch.tensor([0])
    forward_pass = ForwardPass(cache, 1, one, one, 1, torch.tensor([2]), 4, one, [])
    assert forward_pass.causal_mask(None).flatten().tolist() == [False, False, False, True]
