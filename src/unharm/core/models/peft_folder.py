"""Read, write and find PEFT folders, whether trained by a study or made elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from unharm.core.errors import UserError
from unharm.core.spec import Amount, Few, Spec

if TYPE_CHECKING:
    import torch

ADAPTER_FILES = WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


ALL_LINEAR = "all-linear"
"""A target that stands for every linear module but the output layer, as in PEFT."""
PUBLISHED_TARGETS = ["q_proj", "v_proj"]
"""The targets of the published recipe."""


class Lora(Spec):
    """Shape of an adapter (Hu et al., 2021). `lora: all-linear` is short for `targets: all-linear`."""

    r: Few = 8
    alpha: Amount = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    targets: Annotated[list[str], Field(min_length=1)] = Field(
        PUBLISHED_TARGETS, description="names of linear modules, or all-linear"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"targets": data}
        if isinstance(data, dict) and data.get("targets") == ALL_LINEAR:
            data = data | {"targets": [ALL_LINEAR]}
        return data


class AdapterSource(Spec):
    """An adapter made elsewhere: a PEFT folder, or a hub id with its `revision`."""

    source: Annotated[str, Field(min_length=1)]
    revision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"source": data} if isinstance(data, str) else data


def write_adapter(
    folder: Path, tensors: dict[str, torch.Tensor], lora: Lora, base: str, revision: str
) -> None:
    """Write a PEFT folder: float32 weights as safetensors, and the configuration.

    Args:
        folder: An existing folder.
        tensors: Weights by their names in a PEFT folder.
        lora: Shape of the adapter.
        base: Name of the base, recorded in the configuration.
        revision: Revision of the base; may be empty.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    targets = _module_names(lora.targets, tensors)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        revision=revision or None,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    path = folder / CONFIG  # PEFT writes sets in any order; sorted, equal adapters have equal bytes
    data = json.loads(path.read_text()) | {"target_modules": targets}
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n")
    plain = {n: t.detach().cpu().float().contiguous() for n, t in tensors.items()}
    save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})


def _module_names(targets: list[str], tensors: dict[str, torch.Tensor]) -> list[str]:
    """Return the targets as module names, sorted: a preset is replaced by the names that it stands for."""
    modules = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors}
    if all(any(m == t or m.endswith(f".{t}") for m in modules) for t in targets):
        return sorted(targets)
    return sorted({module.rpartition(".")[2] for module in modules})


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a PEFT folder by name."""
    from safetensors.torch import load_file

    return dict(load_file(folder / WEIGHTS))


def find_adapter(name: str, adapter: AdapterSource) -> Path:
    """Return the folder of an adapter made elsewhere. Downloads it if `source` is no folder here.

    Args:
        name: Name of the adapter in the study, for messages.
        adapter: Where it is.

    Raises:
        UserError: It cannot be reached, or is no LoRA adapter in safetensors.
    """
    path = Path(adapter.source).expanduser()
    if not path.is_dir():
        path = _from_hub(name, adapter)
    if not (path / CONFIG).is_file():
        raise UserError(f"no adapter: there is no {CONFIG} in it", adapter.source, f"check adapters.{name}")
    if not (path / WEIGHTS).is_file():
        raise UserError(
            f"there is no {WEIGHTS} in it",
            adapter.source,
            "save the adapter with safetensors: pickled weights are not loaded",
        )
    try:
        kind = json.loads((path / CONFIG).read_text(encoding="utf-8"))["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError("not a PEFT configuration: it names no peft_type", str(path / CONFIG)) from None
    if kind != "LORA":
        raise UserError(
            f"an adapter of type {kind}", str(path / CONFIG), "expected LORA: the only type supported"
        )
    return path


def configuration(folder: Path) -> dict[str, Any]:
    """Return the configuration of a PEFT folder."""
    data: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return data


def scaled_configuration(config: dict[str, Any], scale: float) -> dict[str, Any]:
    """Return the configuration of a LoRA adapter whose change of the base is multiplied by `scale`.

    Raises:
        ValueError: The adapter has more than low-rank matrices, which `lora_alpha` does not multiply.
    """
    more = [n for n in ("use_dora", "modules_to_save", "trainable_token_indices") if config.get(n)]
    if config.get("bias", "none") not in ("none", None) or config.get("lora_bias"):
        more.append("bias")
    if more:
        raise ValueError(f"it has more than low-rank matrices ({', '.join(more)})")
    patterns = {name: alpha * scale for name, alpha in (config.get("alpha_pattern") or {}).items()}
    return config | {"lora_alpha": float(config["lora_alpha"]) * scale, "alpha_pattern": patterns}


def check_base(folder: Path, base: str, revision: str | None) -> None:
    """Check that an adapter was made for this base.

    Local folder names prove nothing and are not compared; shapes are compared when the adapter is loaded.

    Args:
        folder: PEFT folder.
        base: Name of the base.
        revision: Its revision, if the study names one.

    Raises:
        UserError: The adapter names another base of the hub, or another revision.
    """
    config = configuration(folder)
    made_for, its = str(config.get("base_model_name_or_path") or ""), config.get("revision")
    problem = ""
    if made_for != base and _on_hub(made_for) and _on_hub(base):
        problem = f"the adapter was made for {made_for}, and the base is {base}"
    elif made_for == base and its and revision and its != revision:
        problem = f"the adapter was made for revision {its} of the base, and the study names {revision}"
    if problem:
        remedy = "use that base; if both are the same model, correct its adapter_config.json"
        raise UserError(problem, str(folder / CONFIG), remedy)


def _on_hub(name: str) -> bool:
    """Return whether a name looks like an id on the hub, and is no local path."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).exists()


def _from_hub(name: str, adapter: AdapterSource) -> Path:
    """Download an adapter from the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(adapter.source, revision=adapter.revision, allow_patterns=[CONFIG, WEIGHTS])
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UserError(
            f"no adapter folder {adapter.source!r}, and none on the hub ({type(error).__name__})",
            f"adapters.{name}",
            "give a PEFT folder, or a hub id that you can reach",
        ) from None
