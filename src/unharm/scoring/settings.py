"""The parts of a study that describe its scorers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from unharm.core.connection import Connection, KeyVariable, Url
from unharm.core.spec import Amount, AmountOrZero, Count, Few, Positive, Spec, Temperature
from unharm.core.templates import slots_of
from unharm.scoring.guards import PRESETS
from unharm.scoring.guards.preset import Preset

REGARD = ("negative", "neutral", "positive", "other")
SAFETY = ("safe", "unsafe")
THINKING_TOKENS = 8192
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
    """A scorer that may score a sample of the completions."""

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
    batch: Count = Field(64, description="texts in a forward pass, at most 8,192 tokens together")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="float32 gives the same scores on a CPU and a GPU"
    )

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


class Limited(Sampled):
    """A scorer that may ask a service, with limits on its requests."""

    rate: Amount | None = Field(None, description="most requests a second")
    max_requests: Positive | None = Field(None, description="most requests in one run folder")


class ServiceSpec(Limited):
    """A scorer that always asks a service."""


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
    """A language model that judges by a rubric, on an OpenAI-compatible server or through LiteLLM."""

    kind: Literal["judge"]
    through: Literal["openai", "litellm"] = Field(
        "openai", description="litellm: `model` names provider and model, as anthropic/claude-…"
    )
    server: Connection | None = Field(None, description="may be left out with litellm")
    key: KeyVariable | None = Field(None, description="with litellm, the variable that holds the key")
    model: Annotated[str, Field(min_length=1)]
    rubric: str = Field("harmfulness", description="an embedded one, or a file")
    temperature: Temperature | None = Field(
        0.0, description="null: not sent; left out, a reasoning model gets none"
    )
    max_tokens: Count = Field(300, description="of the verdict")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = Field(
        None, description="sent to the model; null: not sent"
    )
    thinking: Count | None = Field(
        None,
        description="tokens that a reasoning model has before its verdict, beside max_tokens; 8,192 where "
        "reasoning_effort asks for reasoning",
    )
    tries: Few = Field(3, description="answers that are asked for until one can be read")
    price: Price | None = None
    max_cost: Amount | None = Field(None, description="in the currency of `price`")

    @model_validator(mode="after")
    def _priced(self) -> JudgeSpec:
        if self.max_cost is not None and self.price is None:
            raise ValueError("give `price` too: without it nobody knows when max_cost is reached")
        return self

    @model_validator(mode="after")
    def _reachable(self) -> JudgeSpec:
        if self.through == "openai" and (self.server is None or self.key is not None):
            raise ValueError(
                "give `server` with its url and key; `key` by itself goes with through: litellm"
            )
        return self

    @property
    def connection(self) -> Connection:
        """The server; for a provider that LiteLLM knows, its key and the limits."""
        return self.server or Connection(url="https://provider.invalid", key=self.key)

    @property
    def thinking_tokens(self) -> int:
        """Tokens for reasoning; 0 for a model that does not reason."""
        asked = self.reasoning_effort not in (None, "none")
        return self.thinking or (THINKING_TOKENS if asked else 0)

    @property
    def sent_temperature(self) -> float | None:
        """The temperature that is sent. Services of reasoning models refuse one, and greedy decoding makes
        open ones run in circles."""
        given = "temperature" in self.model_fields_set
        return None if self.thinking_tokens and not given else self.temperature

    def limit(self, attempt: int) -> int:
        """Return the most tokens of an answer. A reasoning model has twice as many at each further attempt:
        reasoning that is cut has no verdict."""
        if not self.thinking_tokens:
            return self.max_tokens
        return (self.max_tokens + self.thinking_tokens) << (attempt - 1)


class GuardSpec(Limited):
    """A guard: a language model that reads prompt and answer and says safe or not. It runs on this machine,
    or on an OpenAI-compatible server where `server` is given."""

    kind: Literal["guard"]
    preset: str = Field(description="how the guard is asked and read")
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="a folder or a hub id; the preset's first model where left out"
    )
    revision: str | None = Field(None, description="of a hub id: the commit")
    server: Connection | None = None
    measures: Literal["flagged", "refusal", "toxicity"] = Field(
        "flagged", description="toxicity: the probability of unsafe"
    )
    controversial: Literal["unsafe", "safe", "unscored"] = "unsafe"
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="flag from this probability of unsafe on; null: by the verdict"
    )
    categories: Literal["own", "beavertails", "hexphi"] = Field(
        "own", description="whose names of harm are in the label"
    )
    criteria: dict[str, str] | None = Field(
        None, description="your questions by name, for presets that take them"
    )
    max_tokens: Positive | None = Field(None, description="of a reply; the preset's where left out")
    structured: bool = Field(
        False, description="ask a server to hold the reply to the preset's JSON schema"
    )

    @property
    def rules(self) -> Preset:
        return PRESETS[self.preset]

    @property
    def model_name(self) -> str:
        return self.model or self.rules.models[0]

    @property
    def unmapped(self) -> tuple[str, ...]:
        """The names of harm that the guard may give and that no map names; labels show them as unmapped."""
        if self.categories == "own":
            return ()
        mapping = self.rules.maps[self.categories]
        return tuple(name for name in self.criteria or self.rules.categories if name not in mapping)

    @model_validator(mode="after")
    def _fits_the_preset(self) -> GuardSpec:
        if self.preset not in PRESETS:
            raise ValueError(f"give a preset among {', '.join(PRESETS)}; got {self.preset!r}")
        rules = self.rules
        if self.measures == "refusal" and not rules.says_refusal:
            able = ", ".join(name for name, p in PRESETS.items() if p.says_refusal)
            raise ValueError(
                f"give a preset that says whether an answer refuses ({able}); {self.preset} does not"
            )
        if self.categories != "own" and self.categories not in rules.maps:
            raise ValueError(
                f"give categories: own; {self.preset} has no map to the categories of {self.categories}"
            )
        if self.criteria is not None and (not rules.criteria or not self.criteria):
            able = ", ".join(name for name, p in PRESETS.items() if p.criteria)
            raise ValueError(f"give criteria, at least one, to a preset that takes them ({able})")
        unmapped = self.unmapped if self.criteria else ()
        if unmapped:
            raise ValueError(
                f"give categories: own; no map of {self.preset} to {self.categories} names "
                f"{', '.join(unmapped)} of your criteria"
            )
        if self.threshold is not None and self.measures != "flagged":
            raise ValueError("give a threshold only where the guard measures flagged")
        return self


def _question(text: str) -> str:
    try:
        slots = slots_of(text)
    except ValueError as error:
        raise ValueError(f"give a question with named slots: {error}") from None
    if slots != {"text", "value"}:
        raise ValueError("give a question with {text} and {value}")
    return text


class ValuesSpec(Sampled):
    """A language model on this machine that reads values out of texts, such as ValueLlama.

    `relevance` asks whether a value is at stake in a text, answered by yes or no; `valence` whether the
    text is for it, answered by support, oppose or either. Give the words that the model was trained with.
    """

    kind: Literal["values"]
    model: Annotated[str, Field(min_length=1)]
    revision: str | None = Field(None, description="of a hub id: the commit")
    relevance: Annotated[str, AfterValidator(_question)]
    valence: Annotated[str, AfterValidator(_question)]


class PerplexitySpec(Sampled):
    """How surprised a language model is by a completion; a scorer of coherence, not of harm."""

    kind: Literal["perplexity"]
    above: Annotated[float, Field(gt=1, le=1e12)] = Field(
        500.0, description="from here on a text is improbable"
    )


ScorerSpec = Annotated[
    ClassifierSpec | GuardSpec | PerspectiveSpec | ModerationSpec | JudgeSpec | ValuesSpec | PerplexitySpec,
    Field(discriminator="kind"),
]
KINDS: dict[str, Any] = {
    "classifier": ClassifierSpec,
    "guard": GuardSpec,
    "perspective": PerspectiveSpec,
    "moderation": ModerationSpec,
    "judge": JudgeSpec,
    "values": ValuesSpec,
    "perplexity": PerplexitySpec,
}


def asks_service(spec: ScorerSpec | None) -> bool:
    """Return whether a scorer asks a service over the network."""
    return isinstance(spec, ServiceSpec) or (isinstance(spec, GuardSpec) and spec.server is not None)


@dataclass(frozen=True)
class Scoring:
    """The scorers of a study by name, and the base, which some of them read."""

    specs: Mapping[str, ScorerSpec]
    base: str
    revision: str | None = None
