"""The steering of a run: its value vectors, the choice of layer and strength, and one shift per profile.

Keys follow from the inputs alone: vectors from base and training texts, the choice from vectors and
settings, a profile's shift from the choice and its importances.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unharm.benchmarks import neutral
from unharm.benchmarks.registry import NEUTRAL
from unharm.benchmarks.settings import embedded_file
from unharm.core.arms import steering
from unharm.core.hashing import content_hash, content_key
from unharm.core.records import Argument, Profile, Prompt
from unharm.runs import keys
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.store.store import Artefact
from unharm.training.steering.contrasts import Wording, drawn
from unharm.training.steering.selection import spread_over
from unharm.training.steering.vectors import ValueVectors, load_vectors

FOLDER = "steering"


def variants(run: Run) -> list[str]:
    """Return the kinds of value vectors that the study needs: those of its arms, and `mean` for the
    mechanism tables."""
    wanted = [steering(arm) for arm in run.study.arms if steering(arm)]
    if run.study.mechanism is not None:
        wanted.append("mean")
    return list(dict.fromkeys(wanted))


def training_arguments(plan: Plan) -> list[Argument]:
    """Return the arguments of the training split that value vectors are made of."""
    train = [a for a in plan.arguments if plan.splits[a.id] == "train"]
    return drawn(train, plan.study.steering.arguments, plan.study.seed)


def validation_arguments(plan: Plan) -> list[Argument]:
    """Return the statements of the validation split that layer and strength are chosen on."""
    valid = [a for a in plan.arguments if plan.splits[a.id] == "valid"]
    return drawn(valid, plan.study.steering.statements, plan.study.seed)


def neutral_texts(plan: Plan) -> list[Prompt]:
    """Return the neutral texts whose perplexity bounds the strength: those of the study, or ours."""
    prompts = plan.prompts[NEUTRAL].prompts if NEUTRAL in plan.prompts else None
    if prompts is None:
        prompts, _ = neutral.read(embedded_file(neutral.Neutral.ships))
    return prompts[: plan.study.steering.texts]


def chosen_on(plan: Plan) -> list[Profile]:
    """Return the profiles that layer and strength are chosen on."""
    return spread_over(plan.profiles, plan.study.steering.profiles)


def wording(run: Run) -> Wording:
    """Return how texts are put to the base of a run."""
    return Wording(run.plan.pack, run.loaded.tokenizer, run.study.prompting.format, run.plan.chat_form)


def base_parameters(plan: Plan) -> dict[str, Any]:
    """Return the settings that decide how texts are put to the base, and in which precision it reads."""
    study = plan.study
    parameters: dict[str, Any] = {"dtype": study.engine.dtype, "format": study.prompting.format}
    return parameters | ({"chat": keys.chat_key(plan)} if study.prompting.format == "chat" else {})


def vectors_artefact(run: Run, variant: str) -> Artefact:
    """Return the folder of the value vectors of a variant."""
    plan = run.plan
    texts = [[a.id, a.conclusion, a.stance, a.premise, list(a.values)] for a in training_arguments(plan)]
    key = content_key(
        "steering", keys.VERSIONS["steering"], {"variant": variant, **base_parameters(plan)}, run.base.key,
        content_hash(texts), plan.pack.key,
    )  # fmt: skip
    return Artefact(f"{FOLDER}/vectors-{variant}.{key[:12]}", key, {"variant": variant})


def choice_artefact(run: Run, variant: str) -> Artefact:
    """Return the table of the layers and strengths that were tried."""
    plan = run.plan
    settings = plan.study.steering
    parameters = {
        "layers": settings.layers, "strengths": settings.strengths,
        "most_perplexity": settings.most_perplexity,
    }  # fmt: skip
    inputs = [
        [a.id for a in validation_arguments(plan)],
        [list(p.importances) for p in chosen_on(plan)],
        [[p.text, list(p.options)] for p in neutral_texts(plan)],
    ]
    vectors = vectors_artefact(run, variant).key
    key = content_key("steering", keys.VERSIONS["steering"], parameters, vectors, content_hash(inputs))
    return Artefact(f"{FOLDER}/choice-{variant}.json", key, {"variant": variant})


def shift_artefact(run: Run, arm: str, profile: Profile) -> Artefact:
    """Return the folder of the shift of a profile in a steer arm."""
    choice = choice_artefact(run, steering(arm)).key
    key = content_key(
        "steering", keys.VERSIONS["steering"], {}, choice, content_hash(list(profile.importances))
    )
    name = f"{FOLDER}/{keys.folder(arm, profile.name)}.{key[:12]}"
    return Artefact(name, key, {"arm": arm, "profile": profile.name})


def shift_folder(run: Run, arm: str, profile: Profile) -> Path:
    """Return the folder of a profile's shift. Raise `NotDone` if it is not made yet."""
    return run.store.locate(shift_artefact(run, arm, profile))


def stored_vectors(run: Run, variant: str) -> ValueVectors:
    """Read the value vectors of a variant. Raise `NotDone` if they are not made yet."""
    return load_vectors(run.store.locate(vectors_artefact(run, variant)))


def stored_choice(run: Run, variant: str) -> dict[str, Any]:
    """Read what was chosen for a variant, and everything that was tried."""
    text = run.store.locate(choice_artefact(run, variant)).read_text(encoding="utf-8")
    choice: dict[str, Any] = json.loads(text)
    return choice
