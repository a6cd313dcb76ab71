"""Read what a server answers: text, counts, and the probabilities of options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TopTokens = list[tuple[str, float]]
"""The most likely tokens at one place, with their log probabilities."""
ROUNDING = 0.01
"""By how much a server's log probability may be above 0."""


@dataclass(frozen=True)
class ServerAnswer:
    """The first choice of a server.

    Attributes:
        text: The completion.
        finish: Why it ended, in the server's words.
        prompt_tokens: Tokens of the prompt.
        tokens: Tokens of the completion.
        top_tokens: The most likely tokens of each place, where the server gives them.
        sampled: The token that was drawn at each of these places; empty where the server does not say.
        model: The model that answered, as the server names it.
        stopped: Whether a stop text ended the completion; None where the server does not say.
        counts_end: Whether `tokens` includes the token that ends a text.
    """

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    top_tokens: list[TopTokens]
    sampled: tuple[str, ...] = ()
    model: str = ""
    stopped: bool | None = None
    counts_end: bool = False

    def options(self, wanted: tuple[str, ...]) -> tuple[float, ...]:
        """Return the probability of every wanted answer; empty if the server gives no probabilities.

        Read at the first place that is not blank. Blank tokens before it were drawn: their probability
        counts. Options beyond the most likely tokens count as 0.
        """
        names, before = [w.strip() for w in wanted], 0.0
        for place, tokens in enumerate(self.top_tokens):
            drawn = self.sampled[place] if place < len(self.sampled) else None
            chances = [
                math.fsum(math.exp(before + p) for token, p in tokens if token.strip() == name)
                for name in names
            ]
            if drawn is None:  # the first place where an option is likely at all
                if sum(chances) > 0 or (tokens and max(tokens, key=lambda t: t[1])[0].strip()):
                    return tuple(chances)
                continue
            if drawn.strip():
                return tuple(chances)
            before += dict(tokens).get(drawn, 0.0)
        return ()

    def ended(self, stops: tuple[str, ...]) -> tuple[str, int]:
        """Return why a completion ended (`length`, `stop` or `end`), and its tokens without the end."""
        if self.finish == "length":
            return "length", self.tokens
        stopped = bool(stops) if self.stopped is None else self.stopped
        if stopped:
            return "stop", self.tokens
        return "end", max(0, self.tokens - self.counts_end)


def read_answer(response: Any) -> ServerAnswer:
    """Return the first choice of a completion or chat completion. Unreadable probabilities count as none.

    Raises:
        ValueError: There is no choice, or it has no text.
    """
    try:
        choice, usage = response.choices[0], response.usage
        chat = getattr(choice, "message", None)
        text = (chat.content or chat.refusal or "") if chat is not None else choice.text
        if not isinstance(text, str):
            raise ValueError("no text")
        top_tokens, sampled = _top_tokens(getattr(choice, "logprobs", None))
        extra = getattr(choice, "model_extra", None) or {}
        reason = extra.get("stop_reason")
        return ServerAnswer(
            text,
            str(choice.finish_reason or ""),
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
            top_tokens,
            sampled,
            str(getattr(response, "model", "") or ""),
            isinstance(reason, str) if "stop_reason" in extra else None,  # vLLM says it
            "stop_reason" in extra or "timings" in (getattr(response, "model_extra", None) or {}),
        )
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"not an answer: {error}") from None


def _top_tokens(logprobs: Any) -> tuple[list[TopTokens], tuple[str, ...]]:
    """Return the most likely tokens of each place and the drawn ones; empty if they cannot be read.

    Known forms: that of chats, objects or (llama.cpp, for completions too) dictionaries with `content`; and
    that of completions, a dictionary of tokens for each place.
    """
    places = _part(logprobs, "content")
    try:
        if places:
            tops = [[_pair(t) for t in _part(p, "top_logprobs") or ()] for p in places]
            return tops, tuple(str(_part(p, "token")) for p in places)
        tops = [
            [(str(token), _log(p)) for token, p in place.items()]
            for place in _part(logprobs, "top_logprobs") or ()
            if place
        ]
        return tops, tuple(str(t) for t in _part(logprobs, "tokens") or ())
    except (AttributeError, TypeError, ValueError):
        return [], ()


def _pair(entry: Any) -> tuple[str, float]:
    return str(_part(entry, "token")), _log(_part(entry, "logprob"))


def _log(value: Any) -> float:
    """Return a log probability, at most 0. Raise `ValueError` if it is none."""
    number = float(value)
    if not number <= ROUNDING:
        raise ValueError("no log probability")
    return min(number, 0.0)


def _part(value: Any, name: str) -> Any:
    """Return a field of an object or dictionary; None if it has none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def read_next(response: Any, tokens: list[int]) -> dict[int, float]:
    """Return the log probabilities of chosen next tokens.

    Args:
        response: The answer to a request for one token, with `return_tokens_as_token_ids`.
        tokens: The tokens that were asked for.

    Raises:
        ValueError: The server did not give them.
    """
    try:
        chances = response.choices[0].logprobs.top_logprobs[0]
        return {token: float(chances[f"token_id:{token}"]) for token in tokens}
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"no probabilities of chosen tokens: {error}") from None
