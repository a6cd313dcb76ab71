"""Keep track of the rows that are being continued, and of the samples that follow each row.

All samples of a prompt begin as one row. While they draw the same tokens they stay one row, and each token
is computed once for all of them. When they draw different tokens, the row is copied.

Worked example. The prompt `p q` with three samples::

    read the prompt             row 0: p q          samples 0 1 2

    all three draw x            row 0: p q x        samples 0 1 2

    0 and 1 draw y, 2 draws z   row 0: p q x y      samples 0 1
                                row 1: p q x z      sample  2        (`p q x` was copied)

    2 draws the end token       row 0: p q x y …    samples 0 1      (row 1 is free again)

The last token of a row is drawn, but not yet in the cache: the next pass reads it. The example is checked
by `tests/engines/test_rows_example.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from unharm.core.models.transfer import column, to_device, together
from unharm.engines.kv_cache import BLOCK, TILE, ForwardPass, KeyValueCache, Prefix, prompt_pass, round_up
from unharm.engines.prompt_groups import PromptGroup, Sample
from unharm.engines.requests import Request, Sampling
from unharm.engines.sampling import pick, pick_on_device

Finished = tuple[Sample, str]
"""A finished sample, and why it ended: `end`, `length` or `stop`."""


class Rows:
    """The rows that are being continued: rows 0 to `count` of the cache.

    Args:
        device: Where the cache is.
        limit: Most places of the cache; None for no limit.
        exact: See `ForwardPass`; by default on a CPU alone.

    Attributes:
        cache: Keys and values of all rows.
        prompts: The prompt of each row.
        lengths: Number of own tokens of each row in the cache.
        tokens: Next input token of each row.
        samples: All samples in progress.
    """

    def __init__(self, device: torch.device, limit: int | None = None, exact: bool | None = None):
        self.cache = KeyValueCache(limit)
        self.device = device
        self.exact = device.type == "cpu" if exact is None else exact
        self.prompts: list[PromptGroup] = []
        self.lengths: list[int] = []
        self.tokens: list[int] = []
        self.samples: list[Sample] = []
        self._prefix_groups: tuple[torch.Tensor, list[tuple[Prefix, torch.Tensor]]] | None = None
        self._numbers = torch.arange(0, device=device)

    @property
    def count(self) -> int:
        """Number of rows in use."""
        return len(self.prompts)

    @property
    def longest(self) -> int:
        """Most own tokens of a row at its end."""
        return max((u.max_length for u in self.prompts), default=0)

    def _padded(self, rows: int) -> int:
        """Return the number of rows of a pass over so many. Those beyond are padding."""
        return max(rows, TILE) if self.exact else rows

    def cap(self, limit: int) -> None:
        """Give up places of the cache beyond a limit that no row needs, and keep to the limit."""
        self.cache.limit = limit
        if self.cache.size > limit and not self.count:
            self.cache.clear()
        elif self.cache.size > limit:
            self._reserve(self._padded(self.count))

    def _reserve(self, rows: int) -> None:
        """Make room for so many rows of the longest prompt."""
        self.cache.reserve(rows, self.longest)

    def add(self, prompts: list[PromptGroup]) -> tuple[ForwardPass, torch.Tensor, torch.Tensor]:
        """Add prompts as new rows.

        The caller runs the pass and then calls `advance` with the first of these rows.

        Returns:
            The pass that reads the prompts, its tokens [1, tokens], and the place of each row's last token
            among them [rows].
        """
        first = self.count
        for row, prompt in enumerate(prompts, start=first):
            self.prompts.append(prompt)
            self.lengths.append(len(prompt.suffix))
            self.tokens.append(0)
            for request in prompt.requests:
                self.samples.append(Sample(prompt, request, row, _draws(request, prompt.task.sampling)))
        self._reserve(self._padded(self.count))
        self._prefix_groups = None
        offsets, groups = self._prefixes(first, self.count)
        return prompt_pass(self.cache, first, [u.suffix for u in prompts], offsets, groups, self.exact)

    def next_pass(self) -> tuple[ForwardPass, torch.Tensor]:
        """Return the pass that reads the next token of every row, and these tokens [1, rows].

        An exact pass has at least `TILE` rows; those beyond `count` are padding.
        """
        row_count = self._padded(self.count)
        padding = [0] * (row_count - self.count)
        places = round_up(max(self.lengths) + 1, BLOCK)
        self._reserve(row_count)
        starts, tokens = together([self.lengths + padding, self.tokens + padding], self.device)
        if self._prefix_groups is None:
            self._prefix_groups = self._prefixes(0, row_count)
        if len(self._numbers) != row_count:
            self._numbers = torch.arange(row_count, device=self.device)
        forward_pass = ForwardPass(
            self.cache, 0, self._numbers, torch.zeros_like(starts), 1, starts, places, *self._prefix_groups,
            self.exact,
        )  # fmt: skip
        return forward_pass, tokens[None]

    def _prefixes(self, first: int, last: int) -> tuple[torch.Tensor, list[tuple[Prefix, torch.Tensor]]]:
        """Return the prefix length of each row, and the rows of every prefix, counted from `first`."""
        members: dict[int, tuple[Prefix, list[int]]] = {}
        offsets = [0] * (last - first)
        for row, prompt in enumerate(self.prompts[first:last]):
            if prompt.prefix is not None:
                members.setdefault(id(prompt.prefix), (prompt.prefix, []))[1].append(row)
                offsets[row] = prompt.prefix.length
        groups = [(p, column(rows, self.device)) for p, rows in members.values()]
        return column(offsets, self.device), groups

    def adapters(self, first: int, last: int) -> list[str]:
        """Return the adapter of each row. Padding rows have no adapter."""
        named = [u.adapter for u in self.prompts[first:last]]
        return named + [""] * (last - first - len(named))

    def mark_written(self) -> None:
        """Count the input token of every row as cached. Call it after the pass of `next_pass`."""
        self.lengths = [n + 1 for n in self.lengths]

    def advance(self, first: int, logits: torch.Tensor, ended: Callable[[Sample], str]) -> list[Finished]:
        """Draw the next token of every sample that follows a row from `first` on.

        Rows are copied where their samples draw different tokens, and freed when nobody follows them.

        Args:
            first: The first row that `logits` belong to.
            logits: [rows, vocabulary].
            ended: Returns why a sample has ended; empty if it goes on.

        Returns:
            The samples that have ended.
        """
        following = [s for s in self.samples if s.row >= first]
        for sample, token in zip(following, self._draw_tokens(following, first, logits), strict=True):
            sample.tokens.append(token)
        finished, unfinished = [], []
        for sample in following:
            reason = ended(sample)
            if reason:
                finished.append((sample, reason))
            else:
                unfinished.append(sample)
        self.samples = [s for s in self.samples if s.row < first] + unfinished
        self._split_rows(unfinished, first)
        return finished

    def _draw_tokens(self, samples: list[Sample], first: int, logits: torch.Tensor) -> list[int]:
        """Draw the next token of each sample from the logits [rows, vocabulary] of its row."""
        samplings = [u.task.sampling for u in self.prompts[first : first + len(logits)]]
        padding = len(logits) - len(samplings)
        settings = np.array(
            [[s.temperature, s.top_p] for s in samplings] + [[0.0, 1.0]] * padding, dtype=np.float64
        )
        rows = [s.row - first for s in samples]
        draws = np.array([s.draws[len(s.tokens)] for s in samples])
        if not self.exact:
            return pick_on_device(logits, settings, rows, draws)
        temperatures, top_p = torch.from_numpy(settings).to(self.device).unbind(1)
        drawn_tokens: list[int] = pick(
            logits.float(), temperatures, top_p, column(rows, self.device),
            to_device(torch.from_numpy(draws), self.device),
        ).tolist()  # fmt: skip
        return drawn_tokens

    def _split_rows(self, samples: list[Sample], first: int) -> None:
        """Give every row its next token, and copy rows whose samples drew different tokens.

        The first sample of a row decides the token of the row. Samples with another token get a copy of
        the row; copies fill free rows first.
        """
        fork_of: dict[tuple[int, int], int] = {}
        followed: set[int] = set()
        forks: list[tuple[int, list[Sample]]] = []
        for sample in samples:
            drawn = (sample.row, sample.tokens[-1])
            if drawn in fork_of:
                fork = fork_of[drawn]
                if fork >= 0:
                    forks[fork][1].append(sample)
            elif sample.row not in followed:
                followed.add(sample.row)
                fork_of[drawn] = -1
                self.tokens[sample.row] = sample.tokens[-1]
            else:
                fork_of[drawn] = len(forks)
                forks.append((sample.row, [sample]))
        free = [row for row in range(first, self.count) if row not in followed]
        if not forks and not free:
            return
        self._prefix_groups = None
        moves: list[tuple[int, int]] = []
        for source, members in forks:
            target = free.pop(0) if free else self.count
            moves.append((source, target))
            self._copy_entry(source, target, members)
        self._copy_cache(moves)
        self._close_gaps(free)

    def _close_gaps(self, free: list[int]) -> None:
        """Move the last rows into free rows, so that rows 0 to `count` are all in use."""
        gaps, moves = set(free), []
        followers: dict[int, list[Sample]] = {}
        for sample in self.samples:
            followers.setdefault(sample.row, []).append(sample)
        for gap in sorted(free):
            while self.count and self.count - 1 in gaps:
                self._drop_last(gaps)
            if gap >= self.count:
                break
            moves.append((self.count - 1, gap))
            self._copy_entry(self.count - 1, gap, followers.get(self.count - 1, []))
            gaps.discard(gap)
            self._drop_last(gaps)
        self._copy_cache(moves)

    def _drop_last(self, gaps: set[int]) -> None:
        """Remove the last row."""
        gaps.discard(self.count - 1)
        for entries in (self.prompts, self.lengths, self.tokens):
            entries.pop()

    def _copy_entry(self, source: int, target: int, members: list[Sample]) -> None:
        """Make row `target` an entry like `source`, followed by `members`. The cache is copied later."""
        token = members[0].tokens[-1]
        if target == self.count:
            self.prompts.append(self.prompts[source])
            self.lengths.append(self.lengths[source])
            self.tokens.append(token)
        else:
            self.prompts[target], self.lengths[target] = self.prompts[source], self.lengths[source]
            self.tokens[target] = token
        for sample in members:
            sample.row = target

    def _copy_cache(self, moves: list[tuple[int, int]]) -> None:
        """Copy cached rows: (source, target) of each."""
        if not moves:
            return
        places = max(self.lengths[target] for _, target in moves if target < self.count)
        self._reserve(max(self.count, *(max(move) + 1 for move in moves)))
        sources, targets = together(list(zip(*moves, strict=True)), self.device)
        self.cache.copy_rows(sources, targets, places)


def _draws(request: Request, sampling: Sampling) -> np.ndarray:
    """Return the uniform numbers of a request [max_tokens]; zeros for greedy decoding."""
    if sampling.temperature <= 0:
        return np.zeros(sampling.max_tokens)
    return np.random.Generator(np.random.Philox(request.seed)).random(sampling.max_tokens)
