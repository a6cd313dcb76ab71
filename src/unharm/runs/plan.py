"""The plan of a study: its profiles, subjects, adapters, prompts and training examples."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from unharm.benchmarks.registry import BENCHMARKS, PromptSet, load_prompts, select_half
from unharm.core.arms import benign_set, guard_of, has_profile, is_trained
from unharm.core.errors import UserError, nearest
from unharm.core.hashing import array_hash, content_hash, sha256_of
from unharm.core.models.adapter_check import check_adapter
from unharm.core.models.peft_folder import ADAPTER_FILES, check_base, find_adapter
from unharm.core.models.steering_folder import TENSORS, read_steering
from unharm.core.records import Argument, Example, Profile, Split, Subject
from unharm.core.values import VALUES
from unharm.corpus.benign import BenignSet, load_benign
from unharm.corpus.labels import (
    Flags,
    RatedPairs,
    Ratings,
    importance_matrix,
    label_matrix,
    rated_pairs,
    rating_matrix,
    would_say_matrix,
)
from unharm.corpus.preferences import Pair, preference_examples, preference_pairs
from unharm.corpus.valueeval import draw_arguments, read_arguments, split_arguments
from unharm.corpus.vim import ag_example, qa_example
from unharm.profiles.select import SurveyFiles, select_profiles
from unharm.prompting.compose import apply_mode, chat_form
from unharm.prompting.pack import Pack, load_pack
from unharm.runs.adapter_plan import AdapterPlan, planned_adapters
from unharm.runs.planning import published_sizes
from unharm.scoring import ScorerRow
from unharm.scoring.registry import scorer_row
from unharm.study.doses import recipe_of
from unharm.study.samples import arm_samples
from unharm.study.spec import Study
from unharm.training.guards import added_texts
from unharm.training.settings import SAFE_TEXTS, BenignRecipe, Recipe
from unharm.training.step_balance import unequal_steps

if TYPE_CHECKING:
    import polars as pl
    import torch

    from unharm.analysis.bridge import Bridge
    from unharm.analysis.calibration import Calibration
    from unharm.analysis.hypotheses import Stated


def profiles_of(study: Study, sizes_only: bool = False) -> list[Profile]:
    """Return the profiles of a study. With `sizes_only`, placeholders replace a missing survey."""
    placeholders = published_sizes.profiles if sizes_only else None
    surveys = SurveyFiles(study.data_file, study.fidelity == "published", placeholders)
    return select_profiles(study.profiles, surveys)


def read_prompts(study: Study, name: str) -> PromptSet:
    """Read the prompts of a benchmark of a study."""
    spec = study.benchmarks.chosen()[name]
    prompts = load_prompts(name, study.prompt_file(name), spec.limit, study.seed, spec.variant)
    return replace(prompts, prompts=select_half(prompts.prompts, spec.half, study.seed))


class Plan:
    """The inputs of a study, read and checked once, and everything that follows from them.

    Args:
        study: The study.
        sizes_only: Whether placeholders of the published size replace missing data sets, for plans and
            dry runs.
    """

    def __init__(self, study: Study, sizes_only: bool = False):
        self.study, self.sizes_only = study, sizes_only
        self._external_adapters: dict[str, tuple[Path, str]] = {}
        self._benign: dict[str, BenignSet] = {}
        self._calibrations: dict[str, Calibration | Bridge] = {}
        self._human_labels: dict[str, pl.DataFrame] = {}
        self._prompts_keys: dict[tuple[str, int, int], str] = {}
        self._table_hashes: dict[str, tuple[str, str]] = {}
        self._samples: dict[tuple[str, str], int] = {}
        self.pack: Pack = load_pack(study.prompting.pack)
        self.chat_form = chat_form(self.pack, study.prompting)
        self.profiles: list[Profile] = profiles_of(study, sizes_only)
        self.prompts: dict[str, PromptSet] = {
            name: published_sizes.prompts(name, spec.limit)
            if self._absent(study.prompt_file(name))
            else read_prompts(study, name)
            for name, spec in study.benchmarks.chosen().items()
        }

    def _absent(self, path: Path | None) -> bool:
        """Return whether placeholders replace a file."""
        return self.sizes_only and (path is None or not path.exists())

    @cached_property
    def scorers(self) -> dict[str, ScorerRow]:
        """The descriptions of the scorers that the benchmarks use."""
        return {name: scorer_row(self.study.scoring, name) for name in self.study.used_scorers}

    @cached_property
    def hypotheses(self) -> Stated:
        """The hypotheses that the study tests."""
        from unharm.analysis.hypotheses import load_hypotheses

        return load_hypotheses(self.study.analysis.hypotheses)

    def measure(self, benchmark: str) -> str:
        """Return what the metrics of a benchmark measure: that of its map, or else of its scorer."""
        fitted = self.calibration(benchmark)
        scorer = self.study.benchmarks.chosen()[benchmark].scorer
        return fitted.measures if fitted else self.scorers[scorer].measures

    def calibration(self, benchmark: str) -> Calibration | Bridge | None:
        """Return the map that is applied to the scores of a benchmark, or None.

        Raises:
            UserError: The map was fitted for another scorer or version, or leads to another measure.
        """
        spec = self.study.benchmarks.chosen()[benchmark]
        if spec.mapped and benchmark not in self._calibrations:
            from unharm.analysis.score_maps import load_map

            fitted = load_map(Path(spec.mapped).expanduser())
            current = spec.scorer, self.scorers[spec.scorer].version
            expected = fitted.one, fitted.one_version
            if current != expected:
                raise UserError(
                    f"this map is for {' '.join(expected)}, the scorer is {' '.join(current)}",
                    f"benchmarks.{benchmark}.mapped",
                    "fit another with 'unharm pilot' or 'unharm calibrate'",
                )
            wanted = BENCHMARKS[benchmark].measures
            if fitted.measures not in wanted:
                raise UserError(
                    f"this map leads to {fitted.measures.replace('_', ' ')}, no measure of {benchmark}",
                    f"benchmarks.{benchmark}.mapped",
                    f"it needs {' or '.join(wanted)}",
                )
            self._calibrations[benchmark] = fitted
        return self._calibrations.get(benchmark)

    def map_notes(self) -> list[str]:
        """Return which arms the maps of the study were not tested on."""
        notes = []
        for benchmark in self.study.benchmarks.chosen():
            fitted = self.calibration(benchmark)
            untested = fitted.untested(self.study.arms) if fitted else []
            if fitted and untested:
                notes.append(f"{benchmark}: {fitted.name}: the map was not tested on {', '.join(untested)}")
        return notes

    def human_labels(self, benchmark: str) -> pl.DataFrame | None:
        """Return the human labels of a benchmark's completions, or None."""
        files = self.study.benchmarks.chosen()[benchmark].label_files
        if files and benchmark not in self._human_labels:
            from unharm.analysis.human_labels import read_labels

            self._human_labels[benchmark] = read_labels(files, self.measure(benchmark))
        return self._human_labels.get(benchmark)

    def share(self, benchmark: str, scorer: str) -> float:
        """Return the share of a benchmark's completions that a scorer scores."""
        sample = self.study.scorers[scorer].sample if scorer in self.study.scorers else None
        if sample is None:
            return 1.0
        return min(1.0, sample / self.completions(benchmark))

    def completions(self, benchmark: str) -> int:
        """Return the number of completions of a benchmark, over all subjects."""
        per_prompt = sum(self.samples(subject.arm, benchmark) for subject in self.subjects)
        return len(self.prompts[benchmark].prompts) * per_prompt

    def samples(self, arm: str, benchmark: str) -> int:
        """Return the samples per prompt of an arm on a benchmark."""
        if (arm, benchmark) not in self._samples:
            singles = sum(subject.profile is None for subject in self.subjects)
            number = arm_samples(self.study, benchmark, arm, singles, len(self.subjects))
            self._samples[arm, benchmark] = number
        return self._samples[arm, benchmark]

    def compared_samples(self, arm: str, benchmark: str) -> int | None:
        """Return the number of samples that an arm's metrics are made for, so that they compare with those
        of arms that are sampled less often; None where it is sampled no more often than the benchmark says.
        """
        samples = self.study.benchmarks.chosen()[benchmark].samples
        return samples if self.samples(arm, benchmark) > samples else None

    @cached_property
    def subjects(self) -> list[Subject]:
        """Arms × profiles × seeds × strategies, in the order of the spec."""
        return [
            Subject(arm, profile, strategy, seed)
            for arm in self.study.arms
            for profile in (self.profiles if has_profile(arm) else [None])
            for seed in self.seeds_of(arm, profile)
            for strategy in self.study.strategies
        ]

    def seeds_of(self, arm: str, profile: Profile | None) -> list[int] | list[None]:
        """Return the training seeds of an arm with a profile; [None] if the study has one seed for all.

        Raises:
            UserError: `seeds.profiles` names profiles that the study does not have.
        """
        seeds = self.study.seeds
        if seeds is None or not is_trained(arm):
            return [None]
        names = self._profile_names
        if profile is None:
            return seeds.values
        return seeds.of_profile(profile.name, names)

    @cached_property
    def _profile_names(self) -> list[str]:
        """The names of the profiles; those in `seeds.profiles` are checked against them."""
        names = [p.name for p in self.profiles]
        wanted = self.study.seeds.profiles if self.study.seeds else None
        where = "seeds.profiles"
        if isinstance(wanted, int) and wanted > len(names):
            raise UserError(f"{wanted} profiles, but the study has {len(names)}", where, "give fewer")
        if isinstance(wanted, list) and not self.sizes_only and (wrong := set(wanted) - set(names)):
            unknown = sorted(wrong)
            raise UserError(
                f"unknown profiles {', '.join(unknown)}", where, nearest(unknown[0], tuple(names))
            )
        return names

    @cached_property
    def adapters(self) -> list[AdapterPlan]:
        """Every adapter that the arms need, each after its parent and the one that it is a dose of."""
        sources = {name: adapter.source for name, adapter in self.study.adapters.items()}
        return planned_adapters(self.study.arms, self.profiles, self.seeds_of, sources)

    def training_seed(self, adapter: AdapterPlan) -> int:
        """Return the seed of an adapter's first weights, order of examples and dropout."""
        return self.study.seed if adapter.seed is None else adapter.seed

    @property
    def trained(self) -> list[AdapterPlan]:
        """The adapters that this study trains. Doses come from them."""
        return [a for a in self.adapters if not a.source and a.full is None]

    @cached_property
    def arguments(self) -> list[Argument]:
        """The arguments of the corpus, limited by a seeded draw."""
        corpus = self.study.corpus
        if corpus is None:
            return []
        path = self.study.data_file(corpus.arguments)
        arguments = published_sizes.arguments() if self._absent(path) else read_arguments(path)
        return draw_arguments(arguments, corpus.limit, self.study.seed)

    def argument(self, identity: str) -> Argument:
        """Return an argument by its id."""
        return self._arguments_by_id[identity]

    @cached_property
    def _arguments_by_id(self) -> dict[str, Argument]:
        return {a.id: a for a in self.arguments}

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The split of each argument, by its id."""
        assert self.study.corpus is not None
        return split_arguments(
            self.arguments, self.study.corpus.split, self.study.seed, self.study.corpus.split_by
        )

    @cached_property
    def arguments_key(self) -> str:
        """The content hash of the arguments and their labels."""
        return content_hash([[a.id, list(a.values)] for a in self.arguments])

    def benign(self, name: str) -> BenignSet:
        """Return a benign set of the study, read once."""
        if name not in self._benign:
            corpus = self.study.corpus
            assert corpus is not None
            spec = corpus.benign[name]
            path = self.study.data_file(spec.file) if spec.file else None
            self._benign[name] = (
                published_sizes.benign(name, spec.limit, corpus.split)
                if self._absent(path)
                else load_benign(name, path, self.pack, spec.limit, self.study.seed, corpus.split)
            )
        return self._benign[name]

    @property
    def benign_notes(self) -> list[tuple[str, str]]:
        """The notes of the benign sets that were read, each with the set's name."""
        return [(name, note) for name, benign in self._benign.items() for note in benign.notes]

    def examples(self, adapter: AdapterPlan) -> list[Example]:
        """Return the examples of an adapter, all splits."""
        corpus = self.study.corpus
        assert corpus is not None
        if adapter.profile is None:
            return self.benign(adapter.stage).examples
        arguments, splits = self.arguments, self.splits
        labels = self.labels(adapter).tolist()
        if adapter.stage == "dpo":
            return preference_examples(self._pairs(adapter), splits, self.pack)
        if adapter.stage == "ag":
            return [
                ag_example(a, splits[a.id], would, self.pack)
                for a, would in zip(arguments, labels, strict=True)
            ]
        pairs = zip(self.rated_pairs.arguments.tolist(), self.rated_pairs.values.tolist(), strict=True)
        return [
            qa_example(arguments[a], splits[arguments[a].id], VALUES[v], rating, self.pack)
            for (a, v), rating in zip(pairs, labels, strict=True)
        ]

    def _pairs(self, adapter: AdapterPlan) -> list[Pair]:
        """Return the preferences of an adapter, all splits."""
        return preference_pairs(self.arguments, self.labels(adapter).tolist(), self.splits, self.study.seed)

    def _check_pairs(self, adapter: AdapterPlan) -> None:
        """Raise `UserError` if an adapter has no preference to learn from."""
        if not any(self.splits[said.id] == "train" for said, _ in self._pairs(adapter)):
            raise UserError(
                f"no conclusion on which {adapter.profile_name} would say one argument and not another",
                "corpus",
                "raise corpus.limit, or leave the arm dpo out",
            )

    def safe_examples(self) -> list[Example]:
        """Return the safe texts of guards inside training: the training split of `training.guard.data`."""
        return [e for e in self.benign(self.study.training.guard.data).examples if e.split == "train"]

    @cached_property
    def guard_direction(self) -> tuple[torch.Tensor, str]:
        """The direction of preventative steering [layers, hidden], and the hash of its file.

        Raises:
            UserError: There is no such folder, or its file holds something else.
        """
        folder = Path(self.study.training.guard.direction).expanduser()
        direction = read_steering(folder)
        return direction, sha256_of(folder / TENSORS)

    def labels(self, adapter: AdapterPlan) -> Flags | Ratings:
        """Return what a value-injected adapter is taught: whether the person would say each argument
        (stage 1 and preferences), or the rating of each of `rated_pairs` (stage 2)."""
        assert adapter.profile is not None
        row = self._profile_numbers[adapter.profile]
        labels: Flags | Ratings = self.ratings[row] if adapter.stage == "qa" else self.would_say[row]
        return labels

    @cached_property
    def would_say(self) -> Flags:
        """Stage 1 of all profiles, [profiles, arguments]."""
        corpus = self.study.corpus
        assert corpus is not None
        importances = importance_matrix(self.profiles)
        return would_say_matrix(importances, label_matrix(self.arguments), corpus.threshold)

    @cached_property
    def rated_pairs(self) -> RatedPairs:
        """The arguments and values that stage 2 teaches."""
        return rated_pairs(self.arguments, self.study.seed, self.study.fidelity == "published")

    @cached_property
    def ratings(self) -> Ratings:
        """Stage 2 of all profiles, [profiles, rated pairs]."""
        return rating_matrix(importance_matrix(self.profiles), self.rated_pairs)

    def table_hashes(self, stage: str) -> tuple[str, str]:
        """Return the content hashes of the profiles' names and of their labels in a stage, `ag` or `qa`.
        All adapters of the stage share them."""
        if stage not in self._table_hashes:
            names = content_hash([p.name for p in self.profiles])
            self._table_hashes[stage] = names, array_hash(self.would_say if stage == "ag" else self.ratings)
        return self._table_hashes[stage]

    @cached_property
    def _profile_numbers(self) -> dict[Profile, int]:
        return {profile: number for number, profile in enumerate(self.profiles)}

    def recipe(self, adapter: AdapterPlan) -> Recipe:
        """Return the training recipe of an adapter: of value injection, preferences or benign sets."""
        recipe = recipe_of(self.study.training, adapter.arm)
        if isinstance(recipe, BenignRecipe) and recipe.match == "steps":
            return recipe.matched(self._training_texts(adapter), self._injected_steps)
        return recipe

    def _training_texts(self, adapter: AdapterPlan) -> int:
        """Return the texts that an adapter is trained on."""
        if adapter.profile is None:
            return sum(e.split == "train" for e in self.benign(adapter.stage).examples)
        train = [self.splits[a.id] == "train" for a in self.arguments]
        if adapter.stage == "dpo":
            return 2 * sum(self.splits[said.id] == "train" for said, _ in self._pairs(adapter))
        if adapter.stage == "ag":
            return sum(train)
        return sum(train[n] for n in self.rated_pairs.arguments.tolist())

    def steps(self, adapter: AdapterPlan) -> int:
        """Return the optimiser steps of an adapter, those of its parent included."""
        recipe = self.recipe(adapter)
        before = self.steps(adapter.parent) if adapter.parent else 0
        texts = self._training_texts(adapter)
        if guard_of(adapter.arm) == "interleave":
            texts += added_texts(texts, self.study.training.guard.share)
        return before + recipe.epochs * recipe.steps(texts)

    @property
    def steps_by_arm(self) -> dict[str, int]:
        """The optimiser steps of each trained arm of the study: of its first adapter."""
        first: dict[str, AdapterPlan] = {}
        for adapter in self.trained:
            if adapter.arm in self.study.arms:
                first.setdefault(adapter.arm, adapter)
        return {arm: self.steps(adapter) for arm, adapter in first.items()}

    @property
    def unequal_steps(self) -> list[str]:
        """A sentence for each benign arm whose steps are far from those of value injection; none where the
        study matches the loss instead."""
        matched = self.study.training.benign.match == "loss"
        return [] if matched else unequal_steps(self.steps_by_arm)

    @cached_property
    def _injected_steps(self) -> int:
        """The optimiser steps of the first value-injected arm."""
        return self.steps(self.injected[0])

    @cached_property
    def injected(self) -> list[AdapterPlan]:
        """The adapters of the first value-injected arm, which benign arms are matched to."""
        every = [a for a in self.trained if a.profile is not None and a.arm in self.study.arms]
        return [a for a in every if a.arm == every[0].arm]

    def matches_loss(self, adapter: AdapterPlan) -> bool:
        """Return whether the epoch of an adapter is chosen by the loss of the first value-injected arm."""
        return bool(benign_set(adapter.arm)) and self.study.training.benign.match == "loss"

    def external_adapter(self, name: str) -> tuple[Path, str]:
        """Return the folder of an external adapter and the content hash of its files."""
        if name not in self._external_adapters:
            path = find_adapter(name, self.study.adapters[name])
            check_adapter(path, self.study.adapters[name].source)
            check_base(path, self.study.base, self.study.revision)
            files = [[file, sha256_of(path / file)] for file in ADAPTER_FILES]
            self._external_adapters[name] = path, content_hash(files)
        return self._external_adapters[name]

    def prompts_key(self, benchmark: str, first: int, size: int) -> str:
        """Return the content hash of `size` prompts of a benchmark as they are sent to a model."""
        cache_key = (benchmark, first, size)
        if cache_key not in self._prompts_keys:
            prompt_set = self.prompts[benchmark]
            self._prompts_keys[cache_key] = content_hash(
                [
                    [
                        p.id,
                        apply_mode(self.pack, p.text, prompt_set.benchmark.mode),
                        *([list(p.options)] if p.options else []),
                    ]
                    for p in prompt_set.prompts[first : first + size]
                ]
            )
        return self._prompts_keys[cache_key]

    def check_inputs(self) -> None:
        """Read all training data, maps and labels once.

        Raises:
            UserError: An input has problems. It is raised before any work starts.
        """
        for name in self.study.benchmarks.chosen():
            self.calibration(name)
            self.human_labels(name)
        _ = self.hypotheses
        for name in self.study.adapters:
            self.external_adapter(name)
        if any(guard_of(arm) == "steer" for arm in self.study.arms):
            _ = self.guard_direction
        for arm in self.study.arms:
            if guard_of(arm) in SAFE_TEXTS and not self.safe_examples():
                raise UserError(
                    f"no safe text to train {arm} with", "training.guard.data", "use a larger set"
                )
        for adapter in self.trained:
            first = adapter.profile is None or adapter.profile == self.profiles[0]
            if adapter.stage == "dpo":
                self._check_pairs(adapter)
            elif first and not any(e.split == "train" for e in self.examples(adapter)):
                raise UserError(f"no example to train {adapter.label} on", "corpus")
