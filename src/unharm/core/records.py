"""The records that stages pass to each other.

Small inputs (profiles, arguments, prompts) are dataclasses. A full study has millions of completions
and scores: they are stored as table rows with the schemas given here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unharm.core.values import VALUES

NEAR = re.compile(r"-near-\d+$")
STRENGTH = re.compile(r"-strength-(\d+(?:\.\d+)?)$")

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Profile:
    """A value profile: a name and ten importances in [1, 6], in the order of `values.VALUES`."""

    name: str
    importances: tuple[float, ...]
    source: str = ""

    def __getitem__(self, value: str) -> float:
        return self.importances[VALUES.index(value)]

    @property
    def target(self) -> str:
        """The extreme that this profile was chosen to be near to (`power` of `power-near-3`), else its
        name.

        Profiles of one target are alike, so the statistics treat them as one cluster.
        """
        return NEAR.sub("", STRENGTH.sub("", self.name))

    @property
    def strength(self) -> float:
        """How far the importances lie from their mean, as a share of the full profile's (`0.5` for
        `power-strength-0.5`); 1 for a full profile."""
        match = STRENGTH.search(self.name)
        return float(match[1]) if match else 1.0


@dataclass(frozen=True)
class Argument:
    """An argument: conclusion, stance on it, premise, and the values that the premise appeals to."""

    id: str
    conclusion: str
    stance: Literal["in favor of", "against"]
    premise: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One training example: the model learns to write `answer` after `prompt`.

    `value` is the rated value in stage QA, empty in other stages. `positive` says whether a person with
    the profile would use the argument in stage AG; it is true in other stages.
    """

    id: str
    prompt: str
    answer: str
    split: Split
    source: str
    value: str = ""
    positive: bool = True


@dataclass(frozen=True)
class Prompt:
    """One prompt of a benchmark. `id` is unique within the benchmark and is the join key.

    `options` are texts whose probability as the beginning of the answer is wanted.
    """

    id: str
    text: str
    category: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """The model under test, apart from its base: arm, profile (or none), strategy, seed.

    `seed` is that of its adapter where a study trains several per profile, else None.
    """

    arm: str
    profile: Profile | None
    strategy: str
    seed: int | None = None

    @property
    def profile_name(self) -> str:
        return self.profile.name if self.profile else ""

    @property
    def label(self) -> str:
        seed = "" if self.seed is None else f"seed {self.seed}"
        return " · ".join(x for x in (self.arm, self.profile_name, self.strategy, seed) if x)


@dataclass(frozen=True)
class Completion:
    """One sampled continuation. `status` is `completed`, or `failed` with a `reason`.

    `options` holds the model's probabilities of the answer options in the request, in their order,
    before sampling. It is empty if the request has no options or the engine cannot report them. `thought`
    is what a thinking model wrote before its answer; it is no part of `text`.
    """

    completion_id: str
    prompt_id: str
    sample: int
    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    status: Literal["completed", "failed"] = "completed"
    reason: str = ""
    options: tuple[float, ...] = ()
    thought: str = ""


Status = Literal["scored", "unscored", "refused", "filtered", "unanswered"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Score:
    """The score of one completion.

    `value` is None exactly when `status` is not `scored`; `reason` then says why. `unscored`: the scorer
    gave no number for this text. `refused`: a judge refused to judge it. `filtered`: the service's
    content filter blocked it. `unanswered`: the service gave no answer; the next run asks again. `raw`
    is the scorer's full answer if it is more than the number.
    """

    completion_id: str
    value: float | None
    label: str = ""
    status: Status = "scored"
    reason: str = ""
    raw: str = ""


@dataclass(frozen=True)
class ReplyToken:
    """One token of a reply: its text, and how probable the likeliest tokens at its place were, by text."""

    text: str
    likely: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A short reply of a model. `cut` says that it reached its limit; `failure` why there is none."""

    tokens: tuple[ReplyToken, ...]
    cut: bool = False
    failure: str = ""

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Estimate:
    """An estimate with its confidence interval and sample size.

    `n` counts units of the kind `unit`. `low` and `high` bound the interval at the study's confidence
    level (None if n is too small). `unscored` counts items without a score.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    unscored: int = 0


def schema_of(record: type) -> dict[str, Any]:
    """Return the polars schema of a flat record type, in the order of its fields."""
    import dataclasses

    import polars as pl

    kinds: dict[str, Any] = {
        "str": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean,
        "tuple[float, ...]": pl.List(pl.Float64),
    }  # fmt: skip
    schema = {}
    for item in dataclasses.fields(record):
        kind = str(item.type).replace(" | None", "")
        schema[item.name] = kinds.get(kind, pl.String)
    return schema
