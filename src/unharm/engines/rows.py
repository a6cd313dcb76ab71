"""The rows that are being continued, and the samples that follow each of them.

All samples of a prompt begin as one row. As long as they draw the same tokens they stay one row, and
each token is computed once for all of them; where they part, the row is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from unharm.engines.kv_cache import BLOCK, TILE, ForwardPass, KeyValueCache, Prefix, round_up
from unharm.engines.requests import Request, Sampling, Task
from unharm.engines.sampling import pick


@dataclass
class PromptGroup:
    """A prompt of a task and the requests for its samples. `ids` are its tokens, of which the first
    `shared` are its prefix; `options` what was found out about its answers; `reason` why it cannot be
    completed."""

    task: Task
    requests: list[Request]
    ids: list[int]
    shared: int
    adapter: str
    prefix: Prefix | None = None
    options: tuple[float, ...] = ()
    reason: str = ""

    @property
    def suffix(self) -> list[int]:
        return self.ids[self.shared :]

    @property
    def max_cached_tokens(self) -> int:
        """Own tokens of all samples, should they all part at once."""
        return len(self.requests) * (len(self.ids) - self.shared + self.task.sampling.max_tokens)


@dataclass
class Sample:
    """One sample on its way: the row that it follows, its draws [max_tokens], its tokens so far."""

    unit: PromptGroup
    request: Request
    row: int
    draws: np.ndarray
    tokens: list[int] = field(default_factory=list)


Finished = tuple[Sample, str]
"""A sample that is done, and why: `end`, `length` or `stop`."""


class Rows:
    """Rows 0 to `count` of `cells` are being continued; `units`, `lengths` (own tokens so far) and
    `tokens` (the next input) say what each is."""

    def __init__(self, device: torch.device):
        self.cache = KeyValueCache()
        self.device = device
        self.units: list[PromptGroup] = []
        self.lengths: list[int] = []
        self.tokens: list[int] = []
        self.samples: list[Sample] = []
        self._prefix_groups: tuple[torch.Tensor, list[tuple[Prefix, torch.Tensor]]] | None = None

    @property
    def count(self) -> int:
        return len(self.units)

    @property
    def max_cached_tokens(self) -> int:
        """The own tokens of all samples, should they all part and run to their end."""
        return sum(len(s.unit.suffix) + s.unit.task.sampling.max_tokens for s in self.samples)

    def add(self, units: list[PromptGroup]) -> tuple[ForwardPass, torch.Tensor, torch.Tensor]:
        """Adds units as rows; gives the pass that reads their prompts, the tokens [1, tokens] and where
        among them the last one of each row is [rows]. The caller then calls `advance` with those rows."""
        first = self.count
        for row, unit in enumerate(units, start=first):
            self.units.append(unit)
            self.lengths.append(len(unit.suffix))
            self.tokens.append(0)
            for request in unit.requests:
                self.samples.append(Sample(unit, request, row, _draws(request, unit.task.sampling)))
        most = max(len(u.suffix) + u.task.sampling.max_tokens for u in units)
        self.cache.reserve(max(self.count, TILE), most)
        self._prefix_groups = None
        offsets, groups = self._prefixes(first, self.count)
        return prompt_pass(self.cache, first, [u.suffix for u in units], offsets, groups)

    def next_pass(self) -> tuple[ForwardPass, torch.Tensor]:
        """The pass that reads the next token of every row, and these tokens [1, rows]. There are at
        least `TILE` rows: those beyond `count` are of no one."""
        number = max(self.count, TILE)
        spare = number - self.count
        places = round_up(max(self.lengths) + 1, BLOCK)
        self.cache.reserve(number, places)
        starts = torch.tensor(self.lengths + [0] * spare, device=self.device)
        tokens = torch.tensor([self.tokens + [0] * spare], device=self.device)
        if self._prefix_groups is None:
            self._prefix_groups = self._prefixes(0, number)
        each, none = torch.arange(number, device=self.device), torch.zeros_like(starts)
        return ForwardPass(self.cache, 0, each, none, 1, starts, places, *self._prefix_groups), tokens

    def _prefixes(self, first: int, last: int) -> tuple[torch.Tensor, list[tuple[Prefix, torch.Tensor]]]:
        """The length of each row's prefix, and the rows of every prefix, counted from `first`."""
        members: dict[int, tuple[Prefix, list[int]]] = {}
        offsets = [0] * (last - first)
        for row, unit in enumerate(self.units[first:last]):
            if unit.prefix is not None:
                members.setdefault(id(unit.prefix), (unit.prefix, []))[1].append(row)
                offsets[row] = unit.prefix.length
        groups = [(p, torch.tensor(rows, device=self.device)) for p, rows in members.values()]
        return torch.tensor(offsets, device=self.device), groups

    def adapters(self, first: int, last: int) -> list[str]:
        """The adapter of each row; rows of no one have none."""
        named = [u.adapter for u in self.units[first:last]]
        return named + [""] * (last - first - len(named))

    def mark_written(self) -> None:
        """The input token of every row is now in its cells."""
        self.lengths = [n + 1 for n in self.lengths]

    def advance(self, first: int, logits: torch.Tensor, ended: Callable[[Sample], str]) -> list[Finished]:
        """Draws the next token of every sample that follows one of the rows from `first` on, for
        which `logits` are given; copies rows whose samples part; gives the samples that are done.
        `ended` says whether a sample is (why, or nothing)."""
        following = [s for s in self.samples if s.row >= first]
        for sample, token in zip(following, self._draw_tokens(following, first, logits), strict=True):
            sample.tokens.append(token)
        finished, left = [], []
        for sample in following:
            why = ended(sample)
            if why:
                finished.append((sample, why))
            else:
                left.append(sample)
        self.samples = [s for s in self.samples if s.row < first] + left
        self._split_rows(left, first)
        return finished

    def _draw_tokens(self, samples: list[Sample], first: int, logits: torch.Tensor) -> list[int]:
        samplings = [u.task.sampling for u in self.units[first : first + len(logits)]]
        spare = len(logits) - len(samplings)
        numbers = np.array(
            [[s.temperature, s.top_p] for s in samplings] + [[0.0, 1.0]] * spare, dtype=np.float64
        )
        heat, top_p = torch.from_numpy(numbers).to(self.device).unbind(1)
        rows = torch.tensor([s.row - first for s in samples], device=self.device)
        draws = torch.from_numpy(np.array([s.draws[len(s.tokens)] for s in samples])).to(self.device)
        found: list[int] = pick(logits.float(), heat, top_p, rows, draws).tolist()
        return found

    def _split_rows(self, samples: list[Sample], first: int) -> None:
        """Gives every row its next token; samples of a row with another one get a copy of it. Rows
        that nobody follows are taken by others."""
        taken: dict[tuple[int, int], int] = {}
        followed: set[int] = set()
        forks: list[tuple[int, list[Sample]]] = []
        for sample in samples:
            at = (sample.row, sample.tokens[-1])
            if at in taken:
                number = taken[at]
                if number >= 0:
                    forks[number][1].append(sample)
            elif sample.row not in followed:
                followed.add(sample.row)
                taken[at] = -1
                self.tokens[sample.row] = sample.tokens[-1]
            else:
                taken[at] = len(forks)
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
        """The last rows move to where rows became free."""
        gaps, moves = set(free), []
        where: dict[int, list[Sample]] = {}
        for sample in self.samples:
            where.setdefault(sample.row, []).append(sample)
        for gap in sorted(free):
            while self.count and self.count - 1 in gaps:
                self._drop_last(gaps)
            if gap >= self.count:
                break
            moves.append((self.count - 1, gap))
            self._copy_entry(self.count - 1, gap, where.get(self.count - 1, []))
            gaps.discard(gap)
            self._drop_last(gaps)
        self._copy_cache(moves)

    def _drop_last(self, gaps: set[int]) -> None:
        gaps.discard(self.count - 1)
        for column in (self.units, self.lengths, self.tokens):
            column.pop()

    def _copy_entry(self, source: int, target: int, members: list[Sample]) -> None:
        """Row `target` becomes a copy of `source` that `members` follow."""
        token = members[0].tokens[-1]
        if target == self.count:
            self.units.append(self.units[source])
            self.lengths.append(self.lengths[source])
            self.tokens.append(token)
        else:
            self.units[target], self.lengths[target] = self.units[source], self.lengths[source]
            self.tokens[target] = token
        for sample in members:
            sample.row = target

    def _copy_cache(self, moves: list[tuple[int, int]]) -> None:
        if not moves:
            return
        sources, targets = (torch.tensor(x, device=self.device) for x in zip(*moves, strict=True))
        places = max(self.lengths[target] for _, target in moves if target < self.count)
        self.cache.reserve(int(targets.max()) + 1, places)
        self.cache.copy_rows(sources, targets, places)


def prompt_pass(
    cache: KeyValueCache,
    first: int,
    texts: list[list[int]],
    offsets: torch.Tensor,
    groups: list[tuple[Prefix, torch.Tensor]],
) -> tuple[ForwardPass, torch.Tensor, torch.Tensor]:
    """The pass that reads whole texts into the rows from `first` on, all tokens [1, tokens] in one line,
    and where the last token of each text is [rows]. Short lines end with tokens that count for nothing:
    the first text's last one again."""
    sizes = torch.tensor([len(text) for text in texts])
    rows = torch.repeat_interleave(torch.arange(len(texts)), sizes)
    queries = torch.cat([torch.arange(size) for size in sizes.tolist()])
    tokens = torch.tensor([token for text in texts for token in text])
    last = sizes.cumsum(0) - 1
    missing = TILE - len(tokens)
    if missing > 0:
        rows, queries, tokens = (
            torch.cat([x, x[last[:1]].expand(missing)]) for x in (rows, queries, tokens)
        )
    length, longest = round_up(int(sizes.max())), round_up(int(sizes.max()), BLOCK)
    device = offsets.device
    forward_pass = ForwardPass(
        cache, first, rows.to(device), queries.to(device), length, torch.zeros_like(offsets), longest,
        offsets, groups,
    )  # fmt: skip
    return forward_pass, tokens[None].to(device), last.to(device)


def common_length(one: list[int], other: list[int]) -> int:
    """How many tokens two texts share at their beginning, leaving the other at least one."""
    count = 0
    for a, b in zip(one, other[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count


def _draws(request: Request, sampling: Sampling) -> np.ndarray:
    if sampling.temperature <= 0:
        return np.zeros(sampling.max_tokens)
    return np.random.Generator(np.random.Philox(request.seed)).random(sampling.max_tokens)
