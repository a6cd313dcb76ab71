"""How many places of caches the rows in progress can take, so that a budget is kept.

Places are counted as they are allocated: every row of a cache has as many as the longest. Worked example,
with blocks of 32 places and two prompts in progress::

    prompt    own tokens    max_tokens    samples    places of its rows at most
    A         20            64            10         10 rows of 84
    B         300           64            1           1 row of 364

    rows: 11 × 384 (364 rounded up), although A alone would need 10 × 96
    beside them: every prefix, and the rows that read the options of one prompt

So a long prompt is not admitted beside many short ones where the budget is small.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from unharm.engines.kv_cache import BLOCK, round_up
from unharm.engines.prompt_groups import PromptGroup


@dataclass(frozen=True)
class CacheDemand:
    """The most places of caches, should all samples differ and run to their end.

    Attributes:
        samples: Number of samples in progress; each may need a row of its own.
        longest: Most own tokens of a row.
        prefixes: Places of the prefixes that are cached.
        fewest: Fewest rows of a pass.
        options: Most places of the rows that read the options of one prompt.
        new: Places of prefixes to be cached.
    """

    samples: int
    longest: int
    prefixes: int
    fewest: int = 1
    options: int = 0
    new: dict[Hashable, int] = field(default_factory=dict)

    @property
    def places(self) -> int:
        """All places together."""
        return max(self.samples, self.fewest) * round_up(self.longest, BLOCK) + self.beside

    @property
    def beside(self) -> int:
        """Places of everything but rows."""
        return self.prefixes + self.options + sum(self.new.values())

    def plus(self, prompt: PromptGroup, new_prefix: Hashable | None) -> CacheDemand:
        """Return the demand with one more prompt.

        Args:
            prompt: The prompt, with the token ids of its answers, if any.
            new_prefix: What identifies its prefix; None if it has none or it is cached.
        """
        new = {} if new_prefix is None else {new_prefix: round_up(prompt.shared, BLOCK)}
        return CacheDemand(
            self.samples + len(prompt.requests),
            max(self.longest, prompt.max_length),
            self.prefixes,
            self.fewest,
            max(self.options, option_places([prompt])),
            self.new | new,
        )


def option_places(prompts: list[PromptGroup]) -> int:
    """Return the places of the rows that read the options of some prompts in one pass."""
    paths = [path for prompt in prompts for path in prompt.option_rows]
    return len(paths) * round_up(max(map(len, paths), default=0), BLOCK) if paths else 0


def option_passes(asking: list[PromptGroup], room: int) -> list[list[PromptGroup]]:
    """Split prompts with options into parts whose rows take at most `room` places, or are of one prompt."""
    parts: list[list[PromptGroup]] = []
    for prompt in asking:
        if parts and option_places([*parts[-1], prompt]) <= room:
            parts[-1].append(prompt)
        else:
            parts.append([prompt])
    return parts
