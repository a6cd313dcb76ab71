"""What an engine is asked, and the seed of every sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One completion to make: `text` goes to the model as it is; `seed` fixes its draws."""

    completion_id: str
    prompt_id: str
    sample: int
    text: str
    seed: int


@dataclass(frozen=True)
class Sampling:
    """Decoding: temperature 0 is greedy; `top_p` in (0, 1]; `stop` ends a completion."""

    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()


def identify(subject_key: str, benchmark: str, prompt_id: str, sample: int, seed: int) -> tuple[str, int]:
    """The id of a completion and the seed of its draws.

    Both depend on subject, prompt, sample and the study's seed alone, so that neither the
    batch nor a resumed run changes what is drawn.
    """
    text = f"{subject_key}/{benchmark}/{prompt_id}/{sample}/{seed}"
    digest = hashlib.sha256(text.encode()).digest()
    return digest[:10].hex(), int.from_bytes(digest[10:18])
