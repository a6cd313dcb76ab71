"""Export of value vectors and of the shifts of steer arms: plain tensors, cards, GGUF control vectors."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from unharm.core.arms import steering
from unharm.core.errors import UserError
from unharm.core.models.control_vector import writable, write_control_vector
from unharm.core.models.steering_folder import read_steering
from unharm.core.progress import say
from unharm.runs import keys
from unharm.runs.context import Run
from unharm.runs.mechanism import harm_artefact
from unharm.runs.steering import shift_artefact, variants, vectors_artefact
from unharm.store.store import Artefact

CONTROL_VECTOR = "control-vector.gguf"


def export_steering(run: Run, folder: Path) -> list[Path]:
    """Copy value vectors, the harm direction and the shift of every steered profile, each with its card.

    A shift also becomes a control vector of llama.cpp where the package gguf is installed and the first
    layer is not shifted.

    Returns:
        The new folders.

    Raises:
        UserError: The folder cannot be written.
    """
    exported = []
    for variant in variants(run):
        name = f"vectors-{variant}"
        exported += _copied(run, vectors_artefact(run, variant), folder, name)
    if run.study.mechanism is not None and (harm := harm_artefact(run)):
        exported += _copied(run, harm, folder, "harm-direction")
    without = 0
    for arm in [a for a in run.study.arms if steering(a)]:
        for profile in run.plan.profiles:
            name = keys.folder(arm, profile.name)
            for target in _copied(run, shift_artefact(run, arm, profile), folder, name):
                exported.append(target)
                without += not _control_vector(run, target)
    if without:
        reason = "the first layer is shifted" if find_spec("gguf") else "pip install 'unharm[gguf]'"
        say(f"{without} shifts without a control vector for llama.cpp: {reason}")
    return exported


def _copied(run: Run, artefact: Artefact, folder: Path, name: str) -> list[Path]:
    """Copy a finished folder; nothing if it is not made yet."""
    if not run.store.done(artefact):
        return []
    source = run.store.locate(artefact)
    target = folder / f"{name}--{source.name[:12]}"
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write here: {error.strerror or error}", str(target), "") from None
    return [target]


def _control_vector(run: Run, folder: Path) -> bool:
    """Write the control vector of an exported shift, and return whether it was possible."""
    shift = read_steering(folder)
    if find_spec("gguf") is None or not writable(shift):
        return False
    config = json.loads((run.base.path / "config.json").read_text(encoding="utf-8"))
    write_control_vector(folder / CONTROL_VECTOR, shift, str(config["model_type"]))
    return True
