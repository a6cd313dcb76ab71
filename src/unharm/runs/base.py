"""The base model: resolving it, its content key, and loading it frozen."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unharm.core.arms import external_adapter, has_adapter
from unharm.core.errors import UserError
from unharm.core.hashing import content_hash
from unharm.core.models.base_files import (
    BASE_FILES,
    UNWANTED,
    folder_key,
    has_chat_template,
    weight_bytes,
)
from unharm.core.models.completeness import check_links, check_loaded, check_tensors, first_line
from unharm.core.models.gguf import dequantised, gguf_has_chat_template, gguf_key
from unharm.core.models.structure import check_structure
from unharm.core.models.transformers import quiet_libraries
from unharm.core.progress import say
from unharm.scoring.stored_replies import ReplyEngine
from unharm.study.demo.smollm2 import smollm2_file
from unharm.study.spec import SMOLLM2, TOY, Study
from unharm.training.stacked_lora import target_modules

ANNOUNCED = 1_000_000_000
"""The load of a base of this many bytes or more is announced, with its progress."""


@dataclass(frozen=True)
class Base:
    """A base model on this machine. `key` is a hash of its weights, configuration and tokenizer."""

    name: str
    path: Path
    key: str
    revision: str = ""

    @property
    def bytes(self) -> int:
        """Size of its weights in bytes; 0 if it is not on this machine."""
        return weight_bytes(self.path) if self.path != Path() else 0


def resolve_base(study: Study, check: bool = True) -> Base:
    """Return the base of a study: the toy (trained on first use), a folder, a GGUF file (dequantised on
    first use), or a model of the hub.

    If only servers complete the prompts, the result has a name but no path.

    Args:
        study: The study.
        check: Whether its tensors are compared with its configuration. A finished run needs no check: its
            keys hold the content of the base, which was checked when the run began.

    Raises:
        UserError: The base is not a model, cannot be reached, or has no safetensors.
    """
    if not study.needs_base:
        return Base(study.base, Path(), content_hash(["served", study.base]))
    if study.base == TOY:
        from unharm.study.demo.base import toy_base

        path = toy_base()
    elif study.base == SMOLLM2 or Path(study.base).suffix.lower() == ".gguf":
        file = smollm2_file() if study.base == SMOLLM2 else Path(study.base).expanduser()
        if not file.is_file():
            raise UserError("no such file", "base", f"{study.base!r} names a GGUF file")
        path = dequantised(file)
        if check:
            _check_model(path, study)
        return Base(study.base, path, gguf_key(file))
    elif Path(study.base).expanduser().exists():
        path = Path(study.base).expanduser()
    elif study.base.count("/") == 1 and not study.base.startswith((".", "/", "~")):
        path = _from_hub(study.base, study.revision)
        if check:
            _check_model(path, study)
        return Base(study.base, path, content_hash([study.base, path.name]), path.name)
    else:
        raise UserError(
            f"no model named {study.base!r}",
            "base",
            f"expected '{TOY}', '{SMOLLM2}', a folder with a model, a .gguf file, or a hub id: org/name",
        )
    _check_folder(path, study.base)
    check_links(path, study.base)
    if check:
        _check_model(path, study)
    return Base(study.base, path, folder_key(path))


def _check_model(path: Path, study: Study) -> None:
    """Lay the base out without memory, and check its tensors, its layers and the targets of adapters.

    Raises:
        UserError: Tensors are missing, layers cannot be run by this study, or a target matches nothing.
    """
    model = check_tensors(path, study.base, study.engine.trust_remote_code)
    if model is None:
        return
    trains = any(has_adapter(arm) and not external_adapter(arm) for arm in study.arms)
    generates = study.engine.name == "hf" and any(study.server_of(arm) is None for arm in study.arms)
    if trains or generates:
        check_structure(model, study.base)
    if trains:
        target_modules(model, list(study.training.lora.targets))


def same_base(base: Base, study: Study) -> Base:
    """Return the base that another machine resolved, with its path on this machine.

    Raises:
        UserError: This machine has a different base.
    """
    if not study.needs_base or base.path == Path() or base.path.is_dir():
        return base
    local = resolve_base(study)
    if local.key != base.key:
        message = (
            f"the base on {socket.gethostname()} differs from the base on the machine that started the run"
        )
        raise UserError(message, "base", "put it into a folder that all machines share")
    return local


def _from_hub(name: str, revision: str | None) -> Path:
    """Download a model from the hub, or find it in the local cache, and return its folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(BASE_FILES), ignore_patterns=list(UNWANTED)
        )
    except GatedRepoError:
        raise UserError(
            f"the model {name!r} is gated, and your account has no access to it",
            "base",
            f"accept its terms at https://huggingface.co/{name} and set HF_TOKEN to your token",
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"the model {name!r} has no revision {revision!r}", "revision") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"the hub has no model {name!r} for you, or cannot be reached ({type(error).__name__})",
            "base",
            "check the id and your HF_TOKEN, or give the path of a folder that has the model",
        ) from None
    _check_folder(Path(folder), name)
    return Path(folder)


def chat_template_unused(study: Study) -> bool:
    """Return whether the base has a chat template that the study does not use, as far as this machine
    knows: nothing is downloaded."""
    if study.prompting.format != "base" or not study.needs_base or study.base == TOY:
        return False
    if study.base == SMOLLM2:
        return True
    folder = Path(study.base).expanduser()
    if folder.suffix.lower() == ".gguf":
        return gguf_has_chat_template(folder)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        try:
            files = (
                try_to_load_from_cache(study.base, name, revision=study.revision)
                for name in ("chat_template.jinja", "tokenizer_config.json")
            )
            folder = next((Path(file).parent for file in files if isinstance(file, str)), folder)
        except ValueError:  # not a hub id
            return False
    return has_chat_template(folder)


def _check_folder(path: Path, name: str) -> None:
    """Raise `UserError` if a folder contains no model that can be loaded."""
    if not path.is_dir():
        raise UserError("the base is a file, expected a folder with a model", name)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(
            "this folder is not a model: it has no readable config.json", name, "check 'base'"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError("config.json has no model_type, so this is not a model", name)
    if not list(path.glob("*.safetensors")):
        raise UserError(
            "no .safetensors file in this folder",
            name,
            "convert the weights: pickled weights are not loaded",
        )


def device_of(study: Study) -> str:
    """Return the device that the study asks for: `cuda`, `cpu` or a torch device name."""
    import torch

    if study.engine.device != "auto":
        return study.engine.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(base: Base, study: Study) -> Any:
    """Load the tokenizer of the base, with a pad token and padding on the left."""
    from transformers import AutoTokenizer

    quiet_libraries()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base.path, trust_remote_code=study.engine.trust_remote_code
        )
    except Exception as error:  # tokenizer classes raise many types of errors
        message = f"the tokenizer of the base cannot be loaded: {first_line(error)}"
        raise UserError(message, base.name, "fetch its tokenizer files again") from None
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer of the base has no end-of-text token", base.name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_model(base: Base, study: Study) -> Any:
    """Load the base in evaluation mode, without gradients, on the study's device."""
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    device = device_of(study)
    dtype_name = study.engine.dtype
    options: dict[str, Any] = {"device_map": {"": device}}  # straight to the device, without a host copy
    if dtype_name == "4bit":
        dtype_name, options["quantization_config"] = "bfloat16", _four_bits(device)
    auto = torch.bfloat16 if device.startswith("cuda") else torch.float32
    dtype = auto if dtype_name == "auto" else getattr(torch, dtype_name)
    try:
        with _load_progress(base, device):
            model, info = AutoModelForCausalLM.from_pretrained(
                base.path,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=study.engine.trust_remote_code,
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        message = f"the base cannot be loaded as a language model: {first_line(error)}"
        raise UserError(message, base.name, "check the folder") from None
    check_loaded(info, base.name)
    model.requires_grad_(False)
    return model.eval()


@contextmanager
def _load_progress(base: Base, device: str) -> Iterator[None]:
    """Announce the load of a large base and show the progress bar of transformers."""
    from transformers.utils import logging

    if base.bytes < ANNOUNCED:
        yield
        return
    say(f"loading {base.name} onto {device}: {base.bytes / 1e9:.1f} GB")
    logging.enable_progress_bar()
    try:
        yield
    finally:
        logging.disable_progress_bar()


def load_guard_engine(model: str, revision: str | None, device: str, where: str) -> ReplyEngine:
    """Load the engine that guards run on. Raises `UserError` where the model cannot be loaded."""
    from unharm.engines.replies import load_reply_engine

    return load_reply_engine(model, revision, device, where)


def _four_bits(device: str) -> Any:
    """Return the quantisation settings of a 4-bit base (NF4 in bfloat16; Dettmers et al., 2023)."""
    from importlib.util import find_spec

    if not device.startswith("cuda"):
        raise UserError("a 4-bit base needs an NVIDIA GPU", "engine.dtype", "use float32 or bfloat16")
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "a 4-bit base needs the package bitsandbytes", "engine.dtype", "pip install bitsandbytes"
        )
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
