"""Whether an adapter made elsewhere can be used at all, before any work: weights and configuration."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.models.completeness import check_links, first_line
from unharm.core.models.peft_folder import ADAPTER_FILES, CONFIG, WEIGHTS, configuration

MOST_RANK, MOST_ALPHA = 65_536, 1e6
"""Larger numbers are no rank and no alpha."""
MOST_REPEATS = 8
"""Signs of repetition in a pattern of module names; many of them take hours to match."""

Shapes = dict[str, tuple[int, ...]]
"""The shapes of the tensors of an adapter by name."""


def check_adapter(folder: Path, name: str) -> None:
    """Look at the weights of a PEFT folder, and compare its configuration with them.

    Args:
        folder: The folder, with a configuration that names LoRA.
        name: What the user calls it, for messages.

    Raises:
        UserError: A file is a link that leads out of the folder; the weights cannot be read, have no LoRA
            matrix, a matrix without its partner, or are no finite numbers; or the configuration says
            something else.
    """
    check_links(folder, name, ADAPTER_FILES)
    shapes, broken = _shapes(folder, name)
    where = str(folder / WEIGHTS)
    if not any("lora_" in n for n in shapes):
        raise UserError(
            f"the adapter {name} has no LoRA matrix among its {len(shapes)} tensors",
            where,
            "save it with PEFT: PeftModel.save_pretrained(folder)",
        )
    if broken:
        raise UserError(
            f"the adapter {name} has {len(broken)} tensors with numbers that are not finite: {broken[0]}",
            where,
            "train it again: it diverged",
        )
    config = configuration(folder)
    problems = _pair_problems(shapes) + _number_problems(config) + _pattern_problems(config)
    if not problems:
        problems = _rank_problems(config, shapes)
    raise_all(
        [Problem(f"the adapter {name}: {problem}", str(folder / CONFIG), TODO) for problem in problems]
    )


TODO = "configuration and weights are not of one adapter: save it again with PEFT"


def _shapes(folder: Path, name: str) -> tuple[Shapes, list[str]]:
    """Return the shapes of all tensors, and the names of those with numbers that are not finite."""
    import torch
    from safetensors import safe_open

    shapes, broken = {}, []
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  # no mapping
                tensor = file.get_tensor(key)
                shapes[key] = tuple(tensor.shape)
                if not torch.isfinite(tensor.float()).all():
                    broken.append(key)
    except Exception as error:  # safetensors and torch have errors of their own
        raise UserError(
            f"the weights of the adapter {name} cannot be read: {first_line(error)}",
            str(folder / WEIGHTS),
            "save the adapter again, or fetch the file again",
        ) from None
    return shapes, broken


def _pair_problems(shapes: Shapes) -> list[str]:
    """Return what is wrong with the pairs A [rank, in] and B [out, rank]; one problem of each kind."""
    for name, shape in shapes.items():
        if ".lora_A." in name or ".lora_B." in name:
            one, other = (".lora_A.", ".lora_B.") if ".lora_A." in name else (".lora_B.", ".lora_A.")
            partner = shapes.get(name.replace(one, other))
            if partner is None:
                return [f"{name} has no partner {other.strip('.')}"]
            if len(shape) == 2 and len(partner) == 2:
                a, b = (shape, partner) if one == ".lora_A." else (partner, shape)
                if a[0] != b[1]:
                    return [f"{name} has the rank {a[0]}, and its partner {b[1]}"]
    return []


def _number_problems(config: dict[str, Any]) -> list[str]:
    """Return what is wrong with rank and alpha, and with parts that cannot be used."""
    problems = []
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    for field, patterns in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        if not isinstance(patterns, dict):
            return [f"{field} is no mapping"]
    for rank in (config.get("r", 8), *ranks.values()):
        if type(rank) is not int or not 0 < rank <= MOST_RANK:
            problems.append(f"r is {rank!r:.40}, expected a whole number up to {MOST_RANK:,}")
    for alpha in (config.get("lora_alpha", 8), *alphas.values()):
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not number or not math.isfinite(alpha) or not 0 < alpha <= MOST_ALPHA:
            problems.append(f"lora_alpha is {alpha!r:.40}, expected a number up to {MOST_ALPHA:,.0f}")
    if config.get("layer_replication"):
        problems.append("layer_replication copies layers of the base, which is not supported")
    return problems


def _pattern_problems(config: dict[str, Any]) -> list[str]:
    """Return patterns of module names that could take for ever to match: they are regular expressions."""
    patterns = [*(config.get("rank_pattern") or {}), *(config.get("alpha_pattern") or {})]
    for field in ("target_modules", "exclude_modules", "layers_pattern"):
        given = config.get(field)
        patterns += [given] if isinstance(given, str) else given if isinstance(given, list) else []
    for pattern in patterns:
        if not isinstance(pattern, str) or re.search(r"\)[*+{]", pattern):
            return [f"the pattern {pattern!r:.60} repeats a group"]
        if len(re.findall(r"[*+{]", pattern)) > MOST_REPEATS:
            return [f"the pattern {pattern!r:.60} has more than {MOST_REPEATS} repetitions"]
        try:
            re.compile(pattern)
        except re.error as error:
            return [f"the pattern {pattern!r:.60} is no regular expression: {error}"]
    return []


def _rank_problems(config: dict[str, Any], shapes: Shapes) -> list[str]:
    """Return where the configuration names another rank than that of the weights, or absent parts."""
    from peft.utils.other import get_pattern_key

    patterns = config.get("rank_pattern") or {}
    for name, shape in shapes.items():
        if ".lora_A." not in name or len(shape) != 2:
            continue
        module = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
        said = patterns.get(get_pattern_key(patterns.keys(), module), config.get("r", 8))
        if said != shape[0]:
            return [f"it says the rank {said}, and {name} has the rank {shape[0]}"]
        vector = name.replace(".lora_A.weight", ".lora_magnitude_vector")
        if config.get("use_dora") and not {vector, f"{vector}.weight"} & set(shapes):
            return [f"it says use_dora, and {module} has no magnitude vector"]
    return []
