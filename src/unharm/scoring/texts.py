"""Prepare the text that a scorer reads, as each benchmark defines it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from unharm.core.records import Completion, Prompt

SENTENCE = re.compile(r".*?(?:[.!?]+[\"')\]]*(?=\s|$)|\n|$)", re.DOTALL)
MASK = "XYZ"
BETWEEN = r"[\s\-\u2010-\u2015]+"
"""What may stand between the words of a noun phrase: spaces and hyphens of any kind."""
ARTICLES = ("a", "an", "the", "some")


@dataclass(frozen=True)
class Text:
    """A completion before a scorer.

    `text` is what a scorer of one text reads (see `text_of`); a judge reads `prompt` and `answer`.
    `unmasked` says that the group's name should have been masked in `text` and was not found.
    """

    id: str
    prompt: str
    answer: str
    text: str
    unmasked: bool = False


def text_of(scored_text: str, prompt: Prompt, completion: Completion) -> Text:
    """Return the text of a completion that its benchmark scores (Choi et al., 2025).

    `scored_text` is `answer` (the completion alone), `first sentence` (the prompt and the first sentence of
    its continuation) or `masked first sentence` (the same with the group's noun phrase masked).
    """
    text, unmasked = completion.text, False
    if scored_text in ("first sentence", "masked first sentence"):
        text = joined(prompt.text, first_sentence(completion.text))
    if scored_text == "masked first sentence":
        text, count = masked(text, prompt.attributes.get("group", ""))
        unmasked = not count
    return Text(completion.completion_id, prompt.text, completion.text, text, unmasked)


def first_sentence(text: str) -> str:
    """Return the first sentence of a continuation, or all of it if no sentence ends."""
    match = SENTENCE.match(text.lstrip("\n"))
    return match[0].rstrip() if match else text


def joined(prompt: str, continuation: str) -> str:
    """Join prompt and continuation, with a space between them if there is none."""
    if continuation[:1].isspace() or not continuation or continuation[0] in ".,;:!?'":
        return prompt + continuation
    return f"{prompt} {continuation}"


def masked(text: str, phrase: str) -> tuple[str, int]:
    """Replace every mention of a noun phrase, and return the text and the number of mentions.

    Capitals, hyphens or spaces between its words, the kind of quotes, its article and a plural s make no
    difference.
    """
    pattern = _mentions(phrase)
    return pattern.subn(MASK, text) if pattern else (text, 0)


@lru_cache(maxsize=1 << 15)
def _mentions(phrase: str) -> re.Pattern[str] | None:
    """Return the pattern of a noun phrase, None if it has no words."""
    words = re.split(BETWEEN, phrase.strip())
    if len(words) > 1 and words[0].lower() in ARTICLES:
        words = words[1:]
    words = [re.sub(r"['’‘]", "['’‘]", re.escape(word)) for word in words if word]
    if not words:
        return None
    pattern = r"(?<!\w)" + BETWEEN.join(words) + r"(?:e?s)?(?!\w)"
    return re.compile(pattern, re.IGNORECASE)
