"""Batches of texts of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], most_tokens: int, most_rows: int) -> Iterator[list[int]]:
    """Yield the places of texts that form a batch, the longest first.

    Args:
        lengths: Tokens of each text.
        most_tokens: Tokens of a batch at most, padding included; a longer text is a batch by itself.
        most_rows: Texts of a batch at most.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda p: (-lengths[p], p)):
        if batch and (len(batch) == most_rows or (len(batch) + 1) * lengths[batch[0]] > most_tokens):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
