"""The record of every arrow of the flow.

Small inputs (profiles, arguments, prompts) are dataclasses. Completions and scores, of which
a full study has millions, are rows of tables with the schemas given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unharm.core.values import VALUES

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Profile:
    """A name and ten importances in [1, 6], in the order of `values.VALUES`."""

    name: str
    importances: tuple[float, ...]
    source: str = ""

    def __getitem__(self, value: str) -> float:
        return self.importances[VALUES.index(value)]


@dataclass(frozen=True)
class Argument:
    """A conclusion, the stance to it, a premise, and the values that the premise appeals to."""

    id: str
    conclusion: str
    stance: Literal["in favor of", "against"]
    premise: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One training example: the model learns `answer` after `prompt`.

    `value` is the value that is rated (stage QA) and empty elsewhere; `positive` is whether
    the person would say the argument (stage AG) and true elsewhere.
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
    """One prompt of a benchmark. `id` is unique in its benchmark; joins are by id alone."""

    id: str
    text: str
    category: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """The model under test, apart from its base: arm, profile (or none), strategy."""

    arm: str
    profile: Profile | None
    strategy: str

    @property
    def profile_name(self) -> str:
        return self.profile.name if self.profile else ""

    @property
    def label(self) -> str:
        return " · ".join(x for x in (self.arm, self.profile_name, self.strategy) if x)


@dataclass(frozen=True)
class Completion:
    """One sampled continuation. `status` is `completed`, or `failed` with its `reason`.

    `options` are the probabilities of the answers that its request asked about, in their order, as
    the model gives them before anything is sampled; empty where it asked about none or the engine
    could not tell.
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


Status = Literal["scored", "unscored", "refused", "filtered", "unanswered"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Score:
    """What a scorer says of one completion.

    `value` is None exactly when `status` is not `scored`, and `reason` then says why. `unscored`: the
    scorer has no number for this text; `refused`: a judge would not judge it; `filtered`: the service's
    content filter stopped it; `unanswered`: the service gave no answer, the next run asks again. `raw`
    keeps what the scorer answered, where that is more than the number.
    """

    completion_id: str
    value: float | None
    label: str = ""
    status: Status = "scored"
    reason: str = ""
    raw: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number with what it stands on.

    `n` counts units of `unit`; `low` and `high` bound the confidence interval of the study
    (None where n is too small for one); `unscored` counts items that have no score.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    unscored: int = 0


def schema_of(record: type) -> dict[str, Any]:
    """The polars schema of a flat record type, in the order of its fields."""
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
