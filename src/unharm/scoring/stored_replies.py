"""Replies of models on this machine: looked up first, stored as soon as they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from unharm.core import interrupt
from unharm.core.records import Reply
from unharm.scoring.answer_store import Answer, Answers, key_of
from unharm.scoring.texts import Text

STORE = 256
"""Texts whose replies are written to the disk together."""

Items = list[tuple[bytes, Text]]


class ReplyEngine(Protocol):
    """What runs a model that replies: see `engines/replies.py`."""

    @property
    def tokenizer(self) -> Any: ...

    def replies(
        self, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]: ...


LoadEngine = Callable[[str, str | None, str, str], ReplyEngine]
"""From model, revision, device and the field of the spec to a loaded engine."""


def stored_replies(
    texts: Sequence[Text],
    version: str,
    answers: Answers,
    ask: Callable[[Items], Iterator[tuple[bytes, str]]],
) -> list[str]:
    """Return what a model says of every text, as it is stored; equal texts are asked once.

    Args:
        texts: The texts.
        version: What replies depend on besides the text.
        answers: Where replies are stored.
        ask: Yields the key and the packed replies of each text that has none yet, in any order.

    Raises:
        Stopped: The user stops the run. Finished texts are stored.
    """
    keys = [key_of(version, t.prompt, t.answer) for t in texts]
    stored = {key: found[0].raw for key, found in answers.look_up([*dict.fromkeys(keys)]).items()}
    missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in stored}
    items = list(missing.items())
    for start in range(0, len(items), STORE * 16):
        if interrupt.stop_requested():
            raise interrupt.Stopped
        waiting: list[tuple[bytes, int, str, Answer]] = []
        for key, raw in ask(items[start : start + STORE * 16]):
            stored[key] = raw
            waiting.append((key, 1, version, Answer(raw)))
            if len(waiting) >= STORE:
                answers.put_all(waiting)
                waiting = []
        answers.put_all(waiting)
    return [stored[key] for key in keys]
