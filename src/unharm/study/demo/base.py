"""Trains a tiny base (Llama architecture) and its tokenizer from scratch on plain text."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.files.disk import cache_folder
from unharm.core.hashing import content_hash
from unharm.core.progress import say
from unharm.study.demo.world import documents

TOY_VERSION = 1
TOY_SEED = 7
END = "<|end|>"
SAVE_EVERY = 5.0
"""Seconds between two checkpoints: an interrupted training goes on at the last one."""


@dataclass(frozen=True)
class Shape:
    """The size of a base and of its training.

    A row has `window` tokens; a step has `batch` rows. Heads have 32 places, the fewest that vLLM's kernels
    for CPUs take.
    """

    hidden: int = 96
    layers: int = 3
    heads: int = 3
    vocabulary: int = 2000
    context: int = 1024
    window: int = 128
    batch: int = 8
    steps: int = 700
    lr: float = 2e-3


OnStep = Callable[[int, int, float], None]
"""Called after each step with the step, the number of steps, and the loss."""


def toy_base(on_step: OnStep | None = None) -> Path:
    """Return the folder of the toy base. The first use trains it and keeps it in the user's cache."""
    shape = Shape()
    texts = documents(TOY_SEED)
    key = content_hash([TOY_VERSION, asdict(shape), TOY_SEED, texts])[:16]
    folder = cache_folder() / f"toy-base-{key}"
    if not (folder / "config.json").exists():
        train_base(texts, folder, shape, TOY_SEED, on_step or _print_step)
    return folder


def train_base(
    texts: list[str], out: Path, shape: Shape, seed: int, on_step: OnStep | None = None
) -> float:
    """Train tokenizer and model on `texts` and write a transformers folder to `out`.

    The folder is written completely or not at all. A training of the same texts, shape and seed that was
    interrupted goes on, and ends with the same weights.

    Returns:
        The loss of the last step, in nats per token.

    Raises:
        UserError: There is too little text, or the folder cannot be written.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from unharm.core.models.transformers import quiet_libraries

    quiet_libraries()
    tokenizer = train_tokenizer(texts, shape)
    end = tokenizer.eos_token_id
    stream: list[int] = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        stream += [*ids, end]
    rows = len(stream) // shape.window
    if rows < 2:
        raise UserError(f"{len(stream)} tokens are too few to train on", "--text", "give more text files")
    data = torch.tensor(stream[: rows * shape.window]).view(rows, shape.window)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden,
            intermediate_size=shape.hidden * 3,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    key = content_hash([asdict(shape), seed, texts])[:16]
    unfinished = out.parent / f".{out.name}-{key}.unfinished"
    loss = _train(model, data, shape, seed, on_step, unfinished)
    temporary = out.parent / f".{out.name}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        os.replace(temporary, out)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if (out / "config.json").exists():  # another process finished first
            return loss
        raise UserError(f"cannot write the base: {error.strerror or error}", str(out)) from None
    unfinished.unlink(missing_ok=True)
    return loss


def _train(
    model: Any, data: Any, shape: Shape, seed: int, on_step: OnStep | None, unfinished: Path
) -> float:
    """Train the model and return the loss of the last step. Checkpoints are in the file `unfinished`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=shape.lr, weight_decay=0.01)
    warm = max(1, shape.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda s: min((s + 1) / warm, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * s / shape.steps))),
    )
    model.train()
    order = torch.randperm(len(data), generator=generator)
    place, loss_value, first = 0, float("nan"), 0
    state = _load(unfinished)
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        order, place, first = state["order"], state["place"], state["step"]
        say(f"an earlier training of this base goes on at step {first}")
    saved = time.monotonic()
    for step in range(first, shape.steps):
        if place + shape.batch > len(order):
            order, place = torch.randperm(len(data), generator=generator), 0
        rows = data[order[place : place + shape.batch]]
        place += shape.batch
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        loss_value = float(loss.item())
        if time.monotonic() - saved >= SAVE_EVERY:
            parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"generator": generator.get_state(), "order": order, "place": place, "step": step + 1}
            _save(unfinished, state)
            saved = time.monotonic()
        if on_step:
            on_step(step + 1, shape.steps, loss_value)
    return loss_value


def _save(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically. A disk that is full is noticed when the base is written."""
    import torch

    temporary = file.with_name(f"{file.name}-{uuid.uuid4().hex[:8]}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        os.replace(temporary, file)
    except (OSError, RuntimeError):  # torch has an error of its own for a full disk
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _load(file: Path) -> dict[str, Any] | None:
    """Return a checkpoint, or None if none can be read. Nothing but tensors is loaded."""
    import torch

    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
    except Exception:  # a cut file: zip, pickle and torch have errors of their own
        return None
    return state


def train_tokenizer(texts: list[str], shape: Shape) -> Any:
    """Train a byte-level BPE tokenizer with at most `shape.vocabulary` tokens on `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=END, model_max_length=shape.context
    )


def _print_step(step: int, steps: int, loss: float) -> None:
    if step == 1:
        say(f"training the toy base ({steps} steps; later runs reuse it)")
    if step % 200 == 0 or step == steps:
        say(f"toy base: step {step} of {steps}, loss {loss:.2f}")


def read_texts(paths: list[Path]) -> list[str]:
    """Read documents from text files: one per line for .csv, .tsv and .jsonl, else one per paragraph.

    Raises:
        UserError: A file cannot be read, or there is no text.
    """
    from unharm.core.files.yaml_text import read_text

    texts: list[str] = []
    for path in paths:
        content = read_text(path, "--text")
        lines = path.suffix in (".csv", ".tsv", ".jsonl")
        parts = content.splitlines() if lines else content.split("\n\n")
        texts += [part.strip() for part in parts if part.strip()]
    if not texts:
        raise UserError("no text in these files", "--text")
    return texts
