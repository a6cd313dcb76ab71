"""The study: the declarative spec of a whole experiment, checked as one.

Defaults are the published ones (Choi et al., ACL 2025, section 3 and appendix) wherever the
paper states one.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from unharm.analysis.measures import MEASURES
from unharm.analysis.settings import Analysis
from unharm.benchmarks.registry import BENCHMARKS, Benchmarks
from unharm.core.arms import ARMS, STRATEGIES, has_adapter, own_adapter, served_model
from unharm.core.errors import nearest
from unharm.core.models.peft_folder import AdapterSource
from unharm.core.spec import Spec, one_of, unique
from unharm.core.values import HIGHER_ORDER, VALUES
from unharm.corpus.settings import Corpus
from unharm.engines.settings import Engine, Server
from unharm.executors.settings import Asked, ExecutorSpec
from unharm.profiles.settings import ProfileSource, ValueName
from unharm.prompting.settings import Prompting
from unharm.scoring.settings import PerplexitySpec, ScorerSpec, Scoring
from unharm.store.object_storage import as_url
from unharm.training.settings import Training

TOY = "toy"
"""As `base` or `data`: the embedded toy world."""


def _arm(name: str) -> str:
    if own_adapter(name) or served_model(name):
        return name
    if name not in ARMS:
        known = (*ARMS, "adapter:NAME", "served:NAME")
        raise ValueError(f"unknown name {name!r}; {nearest(name, known)}")
    return name


ArmName = Annotated[str, AfterValidator(_arm)]
StrategyName = Annotated[str, one_of(STRATEGIES)]


REQUESTS = tuple(
    name
    for name, row in BENCHMARKS.items()
    if row.mode == "ask" and row.measure in MEASURES and MEASURES[row.measure].harm
)
"""The benchmarks of harmful requests: those that a guard prompt can be tried on."""


class StudyExecutor(ExecutorSpec):
    """The executor of a study. `stages` names the stages whose work can be done elsewhere."""

    stages: dict[Literal["adapters", "completions", "scores"], Asked] = Field(  # type: ignore[assignment]
        {}, description="what single stages ask for instead"
    )


class Mitigation(Spec):
    """What is tried against the harms that were found: see `unharm.runs.stages.mitigation`."""

    benchmarks: Annotated[list[Annotated[str, one_of(REQUESTS)]], Field(min_length=1)] = [REQUESTS[0]]
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
    executor: StudyExecutor = StudyExecutor()
    benchmarks: Benchmarks
    analysis: Analysis = Analysis()
    mitigation: Mitigation | None = None

    @property
    def data_folder(self) -> Path:
        if self.data == TOY:
            return Path(str(resources.files("unharm"))) / "study" / "demo" / "data"
        return Path(self.data).expanduser()

    def data_file(self, name: str) -> Path:
        """A file of a data set: relative names count from the data folder."""
        return self.data_folder / Path(name).expanduser()

    def prompt_file(self, benchmark: str) -> Path:
        """The file of a benchmark's prompts."""
        settings = self.benchmarks.chosen()[benchmark]
        return settings.embedded or self.data_file(settings.file)

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
        surprised = any(isinstance(self.scorers.get(name), PerplexitySpec) for name in self.used_scorers)
        return surprised or any(has_adapter(arm) or self.server_of(arm) is None for arm in self.arms)

    @property
    def servers(self) -> dict[str, Server]:
        """The servers that arms of this study need, by the field of the spec that names them."""
        return {self.server_field(a): server for a in self.arms if (server := self.server_of(a))}

    def style_of(self, arm: str) -> str:
        """How prompts reach the model of an arm: `base`, `chat`, or `messages` for a server's chat
        endpoint."""
        server = self.server_of(arm)
        if server is None:
            return self.prompting.format
        return "messages" if server.endpoint == "chat" else "base"

    @property
    def scoring(self) -> Scoring:
        """The scorers of the study as the scoring package takes them."""
        return Scoring(self.scorers, self.base, self.revision)

    @property
    def used_scorers(self) -> list[str]:
        """The names of the scorers that the benchmarks use."""
        return list(dict.fromkeys(name for b in self.benchmarks.chosen().values() for name in b.scorers))
