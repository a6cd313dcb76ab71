"""The study: the declarative spec of a whole experiment, checked as one.

Defaults are the published ones (Choi et al., ACL 2025, section 3 and appendix) wherever the
paper states one.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from unharm.arms import ARMS, STRATEGIES, has_adapter, own_adapter, served_model
from unharm.benchmarks import HARMLESS
from unharm.benchmarks.settings import Benchmarks
from unharm.engines.settings import Engine, Server
from unharm.errors import nearest
from unharm.executors.settings import ExecutorSpec
from unharm.remote import as_url
from unharm.scoring.settings import PerplexitySpec, ScorerSpec
from unharm.spec import Positive, Probability, Spec, one_of, unique
from unharm.training.recipe import AdapterSource, Training
from unharm.values import HIGHER_ORDER, VALUES, canonical

TOY = "toy"
"""As `base` or `data`: the embedded toy world."""


def _arm(name: str) -> str:
    if own_adapter(name) or served_model(name):
        return name
    if name not in ARMS:
        known = (*ARMS, "adapter:NAME", "served:NAME")
        raise ValueError(f"unknown name {name!r}; {nearest(name, known)}")
    return name


ValueName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), one_of(VALUES)]
ArmName = Annotated[str, AfterValidator(_arm)]
ExtremeName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), one_of((*VALUES, *HIGHER_ORDER))]
StrategyName = Annotated[str, one_of(STRATEGIES)]


def unique_numbers(numbers: list[int]) -> list[int]:
    unique([str(n) for n in numbers])
    return numbers


def _all_if_asked(names: Any) -> Any:
    return [*VALUES, *HIGHER_ORDER] if names == "all" else names


Extremes = Annotated[list[ExtremeName], BeforeValidator(_all_if_asked), AfterValidator(unique)]


class ProfileSource(Spec):
    """Where profiles come from; exactly one of `extreme`, `reverse`, `survey`, `file`.

    `survey` needs `nearest` (so many respondents nearest to each extreme in `to`) or `groups` (a
    column; the mean of each of its groups).
    """

    extreme: Extremes | None = None
    reverse: Extremes | None = None
    survey: str | None = None
    nearest: Positive | None = None
    to: Extremes = [*VALUES, *HIGHER_ORDER]
    groups: str | None = None
    items: str = "ess"
    ipsatise: bool = False
    file: str | None = None
    names: list[str] | None = Field(None, description="only these rows of the file")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str):
            if canonical(data) in ("extreme", "reverse"):
                return {canonical(data): "all"}
            if data.endswith((".csv", ".tsv", ".yaml", ".yml")):
                return {"file": data}
            raise ValueError(
                f"{data!r} is no source of profiles; give 'extreme', 'reverse', a .csv or .yaml "
                "file, or a mapping such as {extreme: [power]}"
            )
        return data

    @model_validator(mode="after")
    def _one(self) -> ProfileSource:
        given = [n for n in ("extreme", "reverse", "survey", "file") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of 'extreme', 'reverse', 'survey' and 'file'")
        if self.survey is not None and (self.nearest is None) == (self.groups is None):
            raise ValueError("give 'nearest' or 'groups' with a survey, and not both")
        return self


class BenignSource(Spec):
    """A benign instruction set: a file, or the hub where no file is given."""

    file: str | None = None
    limit: Positive | None = None


class Corpus(Spec):
    """What the adapters learn from.

    `split` is the share of train, valid and test; it is drawn over arguments, once for both
    stages and all profiles.
    """

    arguments: str
    limit: Positive | None = Field(None, description="use this many arguments, drawn by seed")
    threshold: Annotated[float, Field(ge=1, le=6)] = 3.0
    split: tuple[Probability, Probability, Probability] = (0.8, 0.1, 0.1)
    split_by: Literal["argument", "conclusion"] = "argument"
    benign: dict[str, BenignSource] = {}

    @model_validator(mode="after")
    def _sums_to_one(self) -> Corpus:
        if abs(sum(self.split) - 1) > 1e-9 or self.split[0] == 0:
            raise ValueError("split must sum to 1 and leave something to train on")
        return self


class Prompting(Spec):
    """Wording: `pack` is `default` or a file; `format` is how a prompt reaches the model."""

    pack: str = "default"
    format: Literal["base", "chat"] = "base"
    set_aside: list[ValueName] | dict[str, list[ValueName]] = Field(
        [], description="values that the value prompt sets aside; or by category, `all` for the others"
    )

    def aside(self, category: str) -> list[str]:
        """The values that are set aside for the prompts of a category."""
        if isinstance(self.set_aside, list):
            return self.set_aside
        return self.set_aside.get(category, self.set_aside.get("all", []))


class Analysis(Spec):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    hypotheses: str = Field("published", description="claims to judge: those that come along, or a file")
    toxicity_at: Annotated[list[Positive], AfterValidator(unique_numbers)] = Field(
        [], description="expected maximum toxicity and toxicity probability also for so many samples"
    )
    bias_baseline: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="the negative rate that the bias score compares groups with; else that of all"
    )


class Mitigation(Spec):
    """What is tried against the harms that were found: see `unharm.mitigate`."""

    benchmarks: Annotated[list[Literal["hexphi", "beavertails"]], Field(min_length=1)] = ["hexphi"]
    arm: ArmName | None = Field(
        None, description="the aligned arm; the first value-injected one if left out"
    )
    values: dict[str, list[ValueName]] | None = Field(
        None, description="values to set aside by category; learned from one half if left out"
    )
    harmless: bool = Field(True, description="whether refusals of harmless questions are counted too")


class Study(Spec):
    """The whole spec. Relative paths count from the current folder, `file` fields from `data`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    base: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    data: str = "."
    output: str | None = None
    seed: Annotated[int, Field(ge=0)] = 42
    fidelity: Literal["corrected", "published"] = "corrected"
    profiles: Annotated[list[ProfileSource], Field(min_length=1)] = [
        ProfileSource(extreme=[*VALUES, *HIGHER_ORDER])
    ]
    arms: Annotated[list[ArmName], Field(min_length=1), AfterValidator(unique)]
    strategies: Annotated[list[StrategyName], Field(min_length=1), AfterValidator(unique)] = ["input-only"]
    corpus: Corpus | None = None
    adapters: dict[str, AdapterSource] = {}
    served: dict[str, Server] = {}
    scorers: dict[str, ScorerSpec] = {}
    answers: str | None = Field(None, description="the file that keeps what services answer")
    training: Training = Training()
    prompting: Prompting = Prompting()
    engine: Engine = Engine()
    executor: ExecutorSpec = ExecutorSpec()
    benchmarks: Benchmarks
    analysis: Analysis = Analysis()
    mitigation: Mitigation | None = None

    @property
    def data_folder(self) -> Path:
        if self.data == TOY:
            return Path(str(resources.files("unharm"))) / "demo" / "data"
        return Path(self.data).expanduser()

    def data_file(self, name: str) -> Path:
        """A file of a data set: relative names count from the data folder."""
        return self.data_folder / Path(name).expanduser()

    def prompt_file(self, benchmark: str) -> Path:
        """The file of a benchmark's prompts."""
        name = self.benchmarks.chosen()[benchmark].file
        if benchmark == "harmless" and name == HARMLESS:
            return Path(str(resources.files("unharm"))) / "benchmarks" / "harmless.txt"
        return self.data_file(name)

    @property
    def output_place(self) -> str:
        """The run folder, or an fsspec URL."""
        if self.output and as_url(self.output):
            return self.output
        return str(Path(self.output).expanduser() if self.output else Path("runs") / self.name)

    def server_field(self, arm: str) -> str:
        """The field of the spec with the server that completes the prompts of an arm; empty where this
        machine does."""
        if name := served_model(arm):
            return f"served.{name}"
        return "engine.server" if self.engine.name == "openai" else ""

    def server_of(self, arm: str) -> Server | None:
        """The server that completes the prompts of an arm; None where this machine does."""
        if name := served_model(arm):
            return self.served[name]
        return self.engine.server if self.server_field(arm) else None

    @property
    def needs_base(self) -> bool:
        """Whether the base has to be on this machine: to complete prompts, for adapters or perplexity."""
        used = {name for spec in self.benchmarks.chosen().values() for name in spec.scorers}
        surprised = any(isinstance(self.scorers.get(name), PerplexitySpec) for name in used)
        return surprised or any(has_adapter(arm) or self.server_of(arm) is None for arm in self.arms)

    @property
    def servers(self) -> dict[str, Server]:
        """The servers that arms of this study need, by the field of the spec that names them."""
        return {self.server_field(a): server for a in self.arms if (server := self.server_of(a))}
