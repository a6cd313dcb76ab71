"""The stage that makes value vectors, chooses layer and strength, and writes one shift per profile."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unharm.core.arms import steering
from unharm.core.errors import UserError
from unharm.core.models.steering_folder import write_steering
from unharm.core.progress import say
from unharm.core.records import Profile
from unharm.engines.requests import Request, Sampling, Task, identify
from unharm.prompting.compose import Composer
from unharm.runs.context import Run
from unharm.runs.stages.completions import Engines
from unharm.runs.steering import (
    choice_artefact,
    chosen_on,
    neutral_texts,
    shift_artefact,
    stored_choice,
    stored_vectors,
    training_arguments,
    validation_arguments,
    variants,
    vectors_artefact,
    wording,
)
from unharm.runs.steering_card import shift_card, vectors_card
from unharm.training.steering.directions import at_layer, profile_direction
from unharm.training.steering.selection import (
    LEAST_VALUES,
    Candidate,
    alignment_of,
    choose,
    layers_to_try,
    surprise,
)
from unharm.training.steering.vectors import ValueVectors, from_descriptions, from_statements, save_vectors

ONE_TOKEN = Sampling(1, 0.0, 1.0)
"""Options are read before anything is sampled; an engine must sample at least one token."""


def make_steering(run: Run) -> None:
    """Write the value vectors, the choices and the shifts of the steer arms to steering/."""
    for variant in variants(run):
        _make_vectors(run, variant)
    for arm in [a for a in run.study.arms if steering(a)]:
        _make_choice(run, steering(arm))
        for profile in run.plan.profiles:
            _make_shift(run, arm, profile)


def _make_vectors(run: Run, variant: str) -> None:
    artefact = vectors_artefact(run, variant)
    if run.store.done(artefact):
        return
    arguments = training_arguments(run.plan)

    def write(folder: Path) -> dict[str, Any]:
        if run.dry:
            made = _pretended()
        elif variant == "caa-prompt":
            made = from_descriptions(run.loaded.model, wording(run), arguments)
        else:
            made = from_statements(run.loaded.model, wording(run), arguments, variant)
        save_vectors(folder, made, vectors_card(run.base, variant, made))
        for value in made.missing:
            say(f"steering: no {variant} vector of {value}: too few statements carry it, or do not")
        return {"texts": len(arguments)}

    with run.journaled("steering", artefact):
        run.store.put_folder(artefact, write, under="steering")
    say(f"steering: {variant} vectors of {len(arguments)} statements")


def _pretended() -> ValueVectors:
    """Return vectors of no model, for a dry run."""
    from unharm.core.values import VALUES

    return ValueVectors(torch.zeros(len(VALUES), 1, 1), torch.ones(1), dict.fromkeys(VALUES, (2, 2)))


def _make_choice(run: Run, variant: str) -> None:
    artefact = choice_artefact(run, variant)
    if run.store.done(artefact):
        return
    with run.journaled("steering", artefact):
        base, candidates = (0.0, [Candidate(0, 1.0, 0.0, 1.0, True)]) if run.dry else _tried(run, variant)
        best = choose(candidates)
        record: dict[str, Any] = {"chosen": _recorded(best), "base_alignment": _known(base)}
        record |= {
            "tried": [_recorded(c) for c in candidates],
            "profiles": [p.name for p in chosen_on(run.plan)],
        }
        run.store.put_text(artefact, json.dumps(record, indent=1, allow_nan=False))
    fits = "" if best.fits else "; no candidate keeps the perplexity within the bound"
    aligned = f"alignment {best.alignment:+.2f}, base {base:+.2f}"
    if math.isnan(best.alignment):
        aligned = (
            f"alignment not known: fewer than {LEAST_VALUES} values have a statement that is rated; raise "
            "steering.statements or corpus.limit"
        )
    say(
        f"steering: {variant}: layer {best.layer}, strength {best.strength:g} "
        f"({aligned}; perplexity × {best.perplexity:.2f}{fits})"
    )


def _recorded(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON has it: null where a number is not known or infinite."""
    return {name: _known(value) for name, value in asdict(candidate).items()}


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _tried(run: Run, variant: str) -> tuple[float, list[Candidate]]:
    """Try every layer and strength on the validation statements and the neutral texts.

    Returns:
        The alignment of the base, and the candidates.
    """
    settings, vectors = run.study.steering, stored_vectors(run, variant)
    layers = layers_to_try(settings.layers, len(vectors.scale))
    if not layers:
        message = f"the base has {len(vectors.scale)} layers, numbered from 0"
        raise UserError(message, "steering.layers", "give lower numbers, or auto")
    reader = _Reader(run)
    tried = [(layer, strength) for layer in layers for strength in settings.strengths]
    profiles = chosen_on(run.plan)
    shifts = {
        f"{layer} {strength} {number}": at_layer(
            profile_direction(vectors.vectors, vectors.scale, profile.importances), layer, strength
        )
        for layer, strength in tried
        for number, profile in enumerate(profiles)
    }
    readings = reader.read(shifts)
    plain = reader.surprise(readings[""])
    base = sum(reader.alignment(readings[""], profile) for profile in profiles) / len(profiles)
    candidates = []
    for layer, strength in tried:
        of_profiles = [readings[f"{layer} {strength} {number}"] for number in range(len(profiles))]
        fits = [reader.alignment(r, p) for r, p in zip(of_profiles, profiles, strict=True)]
        dearer = [reader.surprise(reading) - plain for reading in of_profiles]
        ratio = math.exp(min(sum(dearer) / len(dearer), 50.0))
        alignment = sum(fits) / len(fits)
        candidates.append(Candidate(layer, strength, alignment, ratio, ratio <= settings.most_perplexity))
    return base, candidates


class _Reader:
    """Reads the ratings of validation statements and the probability of neutral texts under shifts."""

    def __init__(self, run: Run):
        self._run = run
        self.statements = validation_arguments(run.plan)
        self.texts = neutral_texts(run.plan)
        study, plan, tokenizer = run.study, run.plan, run.loaded.tokenizer
        style = study.prompting.format

        def composer(mode: Any) -> Composer:
            return Composer(plan.pack, "", mode, style, tokenizer, plan.chat_form)

        rate, go_on = composer("rate"), composer("continue")
        ratings = rate.options or rate.plain_ratings
        self._asked = [
            (f"statement {a.id}", rate.text(plan.pack.statement(a)), ratings) for a in self.statements
        ]
        self._asked += [(p.id, go_on.text(p.text), go_on.options_of(p)) for p in self.texts]

    def read(self, shifts: dict[str, torch.Tensor]) -> dict[str, list[tuple[float, ...]]]:
        """Return the probabilities of the options of every text, by the name of the shift; the empty name
        is the base without any."""
        engine = self._run.cache.get(Engines, lambda: Engines(self._run))["hf"]
        readings: dict[str, dict[str, tuple[float, ...]]] = {name: {} for name in ("", *shifts)}
        with tempfile.TemporaryDirectory() as temporary:
            folders = {"": None} | {name: Path(temporary) / str(n) for n, name in enumerate(shifts)}
            for name, shift in shifts.items():
                folder = folders[name]
                assert folder is not None
                folder.mkdir()
                write_steering(folder, shift, {}, "")
            tasks = [
                Task(name, self._requests(name), ONE_TOKEN, folder) for name, folder in folders.items()
            ]
            for task, completion in engine.complete(tasks, _refused):
                readings[task.name][completion.prompt_id] = completion.options
        return {name: [by_text[asked[0]] for asked in self._asked] for name, by_text in readings.items()}

    def _requests(self, name: str) -> tuple[Request, ...]:
        made = []
        for text_id, text, options in self._asked:
            identity, seed = identify(f"steering {name}", "", text_id, 0, self._run.study.seed)
            made.append(Request(identity, text_id, 0, text, seed, options=options))
        return tuple(made)

    def alignment(self, readings: list[tuple[float, ...]], profile: Profile) -> float:
        """Return the centred correlation of the expected ratings with a profile."""
        return alignment_of(readings[: len(self.statements)], self.statements, profile)

    def surprise(self, readings: list[tuple[float, ...]]) -> float:
        """Return the nats per word of the neutral texts."""
        chances = [options[0] if options else 0.0 for options in readings[len(self.statements) :]]
        return surprise(chances, [p.options[0] for p in self.texts])


def _refused(task: Task, error: UserError) -> None:
    raise error


def _make_shift(run: Run, arm: str, profile: Profile) -> None:
    artefact = shift_artefact(run, arm, profile)
    if run.store.done(artefact):
        return
    variant = steering(arm)
    chosen, vectors = stored_choice(run, variant)["chosen"], stored_vectors(run, variant)
    direction = profile_direction(vectors.vectors, vectors.scale, profile.importances)
    shift = at_layer(direction, chosen["layer"], chosen["strength"])
    settings = {"arm": arm, "layer": chosen["layer"], "strength": chosen["strength"], "base": run.base.key}
    card = shift_card(run.base, arm, profile, chosen)
    write: Callable[[Path], dict[str, Any]] = partial(
        _write_shift, shift=shift, settings=settings, card=card
    )
    with run.journaled("steering", artefact):
        run.store.put_folder(artefact, write, under="steering")


def _write_shift(folder: Path, shift: torch.Tensor, settings: dict[str, Any], card: str) -> dict[str, Any]:
    write_steering(folder, shift, settings, card)
    return {}
