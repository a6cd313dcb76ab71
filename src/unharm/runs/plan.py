"""What a study would run: subjects, prompts, completions, examples; without running any of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from unharm.benchmarks.registry import PromptSet, half_of, load
from unharm.core.arms import VIM_STAGES, benign_set, has_profile, own_adapter
from unharm.core.errors import UserError
from unharm.core.hashing import content_hash, sha256_of
from unharm.core.models.peft_folder import ADAPTER_FILES, check_base, find_adapter
from unharm.core.records import Argument, Example, Profile, Split, Subject
from unharm.corpus.benign import BenignSet, load_benign
from unharm.corpus.valueeval import draw, read_arguments, split_of
from unharm.corpus.vim import ag_examples, qa_examples
from unharm.profiles.select import SurveyFiles, select_profiles
from unharm.prompting.compose import put
from unharm.prompting.pack import Pack, load_pack
from unharm.runs.planning import published_sizes
from unharm.scoring import ScorerRow
from unharm.scoring.registry import scorer_row
from unharm.study.spec import Study
from unharm.training.settings import Recipe

if TYPE_CHECKING:
    import polars as pl

    from unharm.analysis.calibration import Calibration
    from unharm.analysis.hypotheses import Stated


@dataclass(frozen=True)
class AdapterPlan:
    """One adapter: `stage` of `arm` for a profile, trained after the adapter `parent`; or one made
    elsewhere, named by `stage`, with its `source`."""

    arm: str
    stage: str
    profile: Profile | None
    parent: AdapterPlan | None = None
    source: str = ""

    @property
    def profile_name(self) -> str:
        return self.profile.name if self.profile else ""

    @property
    def label(self) -> str:
        return f"{self.arm} · {self.profile.name}" if self.profile else self.arm


def profiles_of(study: Study, sizes_only: bool = False) -> list[Profile]:
    """The profiles of a study; with `sizes_only` placeholders for a survey that is not at hand."""
    placeholders = published_sizes.profiles if sizes_only else None
    surveys = SurveyFiles(study.data_file, study.fidelity == "published", placeholders)
    return select_profiles(study.profiles, surveys)


def read_prompts(study: Study, name: str) -> PromptSet:
    """The prompts of a benchmark that a study asks for."""
    spec = study.benchmarks.chosen()[name]
    prompts = load(name, study.prompt_file(name), spec.limit, study.seed, spec.variant)
    return replace(prompts, prompts=half_of(prompts.prompts, spec.half, study.seed))


class Plan:
    """The inputs of a study, read and checked once; everything else follows from them. With `sizes_only`
    data sets that are not at hand count with their published sizes, for plans and dry runs."""

    def __init__(self, study: Study, sizes_only: bool = False):
        self.study, self.sizes_only = study, sizes_only
        self._own_adapters: dict[str, tuple[Path, str]] = {}
        self._benign: dict[str, BenignSet] = {}
        self._calibrations: dict[str, Calibration] = {}
        self._people: dict[str, pl.DataFrame] = {}
        self._prompts_keys: dict[tuple[str, int, int], str] = {}
        self.pack: Pack = load_pack(study.prompting.pack)
        self.profiles: list[Profile] = profiles_of(study, sizes_only)
        self.prompts: dict[str, PromptSet] = {
            name: published_sizes.prompts(name, spec.limit)
            if self._absent(study.prompt_file(name))
            else read_prompts(study, name)
            for name, spec in study.benchmarks.chosen().items()
        }

    def _absent(self, path: Path | None) -> bool:
        """Whether placeholders stand in for a file."""
        return self.sizes_only and (path is None or not path.exists())

    @cached_property
    def scorers(self) -> dict[str, ScorerRow]:
        """What is known of the scorers that the benchmarks use."""
        return {name: scorer_row(self.study.scoring, name) for name in self.study.used_scorers}

    @cached_property
    def stated(self) -> Stated:
        """The hypotheses that the study judges."""
        from unharm.analysis.hypotheses import load_hypotheses

        return load_hypotheses(self.study.analysis.hypotheses)

    def calibration(self, benchmark: str) -> Calibration | None:
        """The map that the scores of a benchmark go through; None where there is none. Raises `UserError`
        where it is not for the benchmark's scorer as it is now."""
        spec = self.study.benchmarks.chosen()[benchmark]
        if spec.mapped and benchmark not in self._calibrations:
            from unharm.analysis.calibration import load as load_map

            found = load_map(Path(spec.mapped).expanduser())
            here, there = (spec.scorer, self.scorers[spec.scorer].version), (found.one, found.one_version)
            if here != there:
                raise UserError(
                    f"this map is for {' '.join(there)}, the scorer is {' '.join(here)}",
                    f"benchmarks.{benchmark}.mapped",
                    "fit another with 'unharm calibrate'",
                )
            self._calibrations[benchmark] = found
        return self._calibrations.get(benchmark)

    def people(self, benchmark: str) -> pl.DataFrame | None:
        """The labels that people gave to completions of a benchmark."""
        file = self.study.benchmarks.chosen()[benchmark].human
        if file and benchmark not in self._people:
            from unharm.analysis.human_labels import read_people

            self._people[benchmark] = read_people(Path(file).expanduser())
        return self._people.get(benchmark)

    def share(self, benchmark: str, scorer: str) -> float:
        """The share of a benchmark's completions that a scorer is given."""
        sample = self.study.scorers[scorer].sample if scorer in self.study.scorers else None
        if sample is None:
            return 1.0
        each = len(self.prompts[benchmark].prompts) * self.study.benchmarks.chosen()[benchmark].samples
        return min(1.0, sample / (each * len(self.subjects)))

    @cached_property
    def subjects(self) -> list[Subject]:
        """Arms × profiles × strategies, in the order of the spec."""
        return [
            Subject(arm, profile, strategy)
            for arm in self.study.arms
            for profile in (self.profiles if has_profile(arm) else [None])
            for strategy in self.study.strategies
        ]

    @cached_property
    def adapters(self) -> list[AdapterPlan]:
        """Every adapter that the arms need, each after its parent."""
        found: dict[AdapterPlan, None] = {}
        for arm in self.study.arms:
            if benign_set(arm):
                found[AdapterPlan(arm, benign_set(arm), None)] = None
            if name := own_adapter(arm):
                found[AdapterPlan(arm, name, None, source=self.study.adapters[name].source)] = None
            for profile in self.profiles if arm in VIM_STAGES else []:
                *before, last = VIM_STAGES[arm]
                parent = AdapterPlan(f"vim-{before[0]}", before[0], profile) if before else None
                if parent:
                    found[parent] = None
                found[AdapterPlan(arm, last, profile, parent)] = None
        return list(found)

    @property
    def trained(self) -> list[AdapterPlan]:
        """The adapters that this study trains."""
        return [a for a in self.adapters if not a.source]

    def adapter_of(self, subject: Subject) -> AdapterPlan | None:
        """The adapter that a subject is made with, or None."""
        return self._adapter_of.get((subject.arm, subject.profile))

    @cached_property
    def _adapter_of(self) -> dict[tuple[str, Profile | None], AdapterPlan]:
        return {(adapter.arm, adapter.profile): adapter for adapter in self.adapters}

    @cached_property
    def arguments(self) -> list[Argument]:
        corpus = self.study.corpus
        if corpus is None:
            return []
        path = self.study.data_file(corpus.arguments)
        arguments = published_sizes.arguments() if self._absent(path) else read_arguments(path)
        return draw(arguments, corpus.limit, self.study.seed)

    @cached_property
    def splits(self) -> dict[str, Split]:
        assert self.study.corpus is not None
        return split_of(
            self.arguments, self.study.corpus.split, self.study.seed, self.study.corpus.split_by
        )

    @cached_property
    def arguments_key(self) -> str:
        """The content hash of the arguments and their labels."""
        return content_hash([[a.id, list(a.values)] for a in self.arguments])

    def benign(self, name: str) -> BenignSet:
        """A benign set of the study, read once."""
        if name not in self._benign:
            corpus = self.study.corpus
            assert corpus is not None
            spec = corpus.benign[name]
            path = self.study.data_file(spec.file) if spec.file else None
            about = (self.pack, spec.limit, self.study.seed, corpus.split)
            absent = self._absent(path)
            self._benign[name] = (
                published_sizes.benign(name, spec.limit, corpus.split)
                if absent
                else load_benign(name, path, *about)
            )
        return self._benign[name]

    @property
    def benign_notes(self) -> list[tuple[str, str]]:
        """The notes of the benign sets that were read, each with the set's name."""
        return [(name, note) for name, read in self._benign.items() for note in read.notes]

    def examples(self, adapter: AdapterPlan) -> list[Example]:
        """The examples that an adapter learns from, all splits."""
        corpus = self.study.corpus
        assert corpus is not None
        if adapter.profile is None:
            return self.benign(adapter.stage).examples
        if adapter.stage == "ag":
            return ag_examples(self.arguments, self.splits, adapter.profile, self.pack, corpus.threshold)
        published = self.study.fidelity == "published"
        about = self.arguments, self.splits, adapter.profile, self.pack, self.study.seed
        return qa_examples(*about, as_published=published)

    def recipe(self, adapter: AdapterPlan) -> Recipe:
        """How an adapter is trained: value injection and benign sets have recipes of their own."""
        training = self.study.training
        return training.vim if adapter.profile else training.benign

    def own_adapter(self, name: str) -> tuple[Path, str]:
        """The folder of an adapter made elsewhere and the content hash of its files."""
        if name not in self._own_adapters:
            path = find_adapter(name, self.study.adapters[name])
            check_base(path, self.study.base, self.study.revision)
            files = [[file, sha256_of(path / file)] for file in ADAPTER_FILES]
            self._own_adapters[name] = path, content_hash(files)
        return self._own_adapters[name]

    def prompts_key(self, benchmark: str, first: int, size: int) -> str:
        """The content hash of some prompts of a benchmark as they are put to a model."""
        at = (benchmark, first, size)
        if at not in self._prompts_keys:
            prompt_set = self.prompts[benchmark]
            self._prompts_keys[at] = content_hash(
                [
                    [p.id, put(self.pack, p.text, prompt_set.benchmark.mode)]
                    for p in prompt_set.prompts[first : first + size]
                ]
            )
        return self._prompts_keys[at]

    def check_inputs(self) -> None:
        """Reads all training data, maps and labels once, so that mistakes are told before any work."""
        for name in self.study.benchmarks.chosen():
            self.calibration(name)
            self.people(name)
        _ = self.stated
        for name in self.study.adapters:
            self.own_adapter(name)
        for adapter in self.trained:
            first = adapter.profile is None or adapter.profile == self.profiles[0]
            if first and not any(e.split == "train" for e in self.examples(adapter)):
                raise UserError(f"no example to train {adapter.label} on", "corpus")
