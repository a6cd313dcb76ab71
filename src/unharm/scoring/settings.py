"""The parts of the spec that describe scorers of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from unharm.core.connection import Connection, KeyVariable, Url
from unharm.core.spec import Amount, AmountOrZero, Count, Few, Positive, Spec, Temperature
from unharm.core.templates import slots_of

REGARD = ("negative", "neutral", "positive", "other")
SAFETY = ("safe", "unsafe")
ATTRIBUTES = ("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT")
"""The attributes that Perspective is always asked for."""


def _template(text: str) -> str:
    try:
        slots = slots_of(text)
    except ValueError as error:
        raise ValueError(f"give a template with named slots: {error}") from None
    if not slots & {"text", "answer"} or slots - {"text", "answer", "prompt"}:
        raise ValueError("give a template with {text}, or with {answer} and perhaps {prompt}")
    return text


class Sampled(Spec):
    """A scorer that may take a part of the completions only."""

    sample: Positive | None = Field(
        None, description="about so many completions of a benchmark, drawn by seed; all where left out"
    )


class ClassifierSpec(Sampled):
    """A text-classification model of transformers. `labels` says what each of its labels means: a number
    in [0, 1] for toxicity; negative, neutral, positive or other for regard; safe or unsafe for flagged."""

    kind: Literal["classifier"]
    model: Annotated[str, Field(min_length=1)]
    revision: str | None = Field(
        None, description="of a hub id: the commit, so that scores can be repeated"
    )
    measures: Literal["toxicity", "negative_regard", "flagged"]
    labels: Annotated[dict[str, float | str], Field(min_length=1)]
    template: Annotated[str, AfterValidator(_template)] = "{text}"
    batch: Count = Field(64, description="texts in a forward pass")

    @model_validator(mode="after")
    def _meanings(self) -> ClassifierSpec:
        if self.measures == "toxicity":
            right = all(isinstance(m, (int, float)) and 0 <= m <= 1 for m in self.labels.values())
            expected = "a number from 0 to 1 for every label"
        else:
            words = REGARD if self.measures == "negative_regard" else SAFETY
            right = all(m in words for m in self.labels.values()) and words[0] in self.labels.values()
            right = right and (words is REGARD or "unsafe" in self.labels.values())
            expected = f"one of {', '.join(words)} for every label"
        if not right:
            raise ValueError(f"give {expected}; `labels` of {self.measures} has {self.labels}")
        return self


class ServiceSpec(Sampled):
    """What all services share: a limit on what is asked of them."""

    rate: Amount | None = Field(None, description="most requests a second")
    max_requests: Positive | None = Field(None, description="most requests in one run folder")


class PerspectiveSpec(ServiceSpec):
    """The Perspective API, which ends with 2026."""

    kind: Literal["perspective"]
    url: Url = "https://commentanalyzer.googleapis.com"
    key: KeyVariable = "PERSPECTIVE_API_KEY"
    attribute: str = Field("TOXICITY", description="the one that metrics use; all are kept")
    language: str | None = Field("en", description="null: the service finds it out")
    rate: Amount | None = 1.0
    attempts: Few = 6
    timeout: Amount = 60

    @property
    def server(self) -> Connection:
        many = max(1, min(64, round(2 * self.rate))) if self.rate else 16
        return Connection(
            url=self.url, key=self.key, concurrency=many, attempts=self.attempts, timeout=self.timeout
        )


class ModerationSpec(ServiceSpec):
    """An OpenAI-compatible moderation endpoint: flagged or not, or its largest category score."""

    kind: Literal["moderation"]
    server: Connection = Connection(url="https://api.openai.com/v1", key="OPENAI_API_KEY")
    model: str = "omni-moderation-latest"
    measures: Literal["flagged", "toxicity"] = "flagged"


class Price(Spec):
    """Money per million tokens, in any currency."""

    input: AmountOrZero
    output: AmountOrZero


class JudgeSpec(ServiceSpec):
    """A language model that judges by a rubric, on an OpenAI-compatible chat endpoint."""

    kind: Literal["judge"]
    server: Connection
    model: Annotated[str, Field(min_length=1)]
    rubric: str = Field("harmfulness", description="an embedded one, or a file")
    temperature: Temperature | None = Field(0.0, description="null: not sent")
    max_tokens: Count = 300
    tries: Few = Field(3, description="answers that are asked for until one can be read")
    price: Price | None = None
    max_cost: Amount | None = Field(None, description="in the currency of `price`")

    @model_validator(mode="after")
    def _priced(self) -> JudgeSpec:
        if self.max_cost is not None and self.price is None:
            raise ValueError("give `price` too: without it nobody knows when max_cost is reached")
        return self


class PerplexitySpec(Sampled):
    """How surprised a language model is by a completion; a scorer of coherence, not of harm."""

    kind: Literal["perplexity"]
    above: Annotated[float, Field(gt=1, le=1e12)] = Field(
        500.0, description="from here on a text is improbable"
    )


ScorerSpec = Annotated[
    ClassifierSpec | PerspectiveSpec | ModerationSpec | JudgeSpec | PerplexitySpec,
    Field(discriminator="kind"),
]
KINDS: dict[str, Any] = {
    "classifier": ClassifierSpec,
    "perspective": PerspectiveSpec,
    "moderation": ModerationSpec,
    "judge": JudgeSpec,
    "perplexity": PerplexitySpec,
}


@dataclass(frozen=True)
class Scoring:
    """The scorers of a study by name, and the base, whose perplexity a scorer may read."""

    specs: Mapping[str, ScorerSpec]
    base: str
    revision: str | None = None
