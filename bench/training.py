"""Training adapters: the published way against packed and stacked training.

    python bench/training.py [--data DATA] [--quick] [--device cpu|cuda] [--shape small|llama-2-7b]

Stage 2 examples of real arguments (DATA/touche23/valueEval_10.csv; without --data, of the toy ones) train
LoRA adapters (r 8, q_proj and v_proj, dropout 0.1, batch 8) on a randomly initialised Llama:

- published: plain PEFT, one adapter, float32, every example padded or cut to 128 tokens, all logits
- packed: one adapter; shared prefixes once, logits at labels alone
- stacked: 16 adapters in lockstep, nothing shared
- both: 16 adapters in lockstep over shared prefixes; "by argument" keeps an argument's examples together
  (recipe field order: argument); bfloat16 is the base's type, adapters stay float32. Rows with it are left
  out where a matrix product in bfloat16 is slower than in float32, as on CPUs without instructions for it

The ways take turns for some rounds; a ratio is the median over rounds of examples/s against the published
way in the same round. "tokens" are computed tokens per example, padding included; "memory" is the peak above
that of the loaded base; "useful" is the share of a large matrix product's FLOP/s that goes into distinct
tokens: 2 × parameters forward and as much again backward, as the base is frozen; of the output layer, at
labels alone.

The last line is JSON: ratio_1 and ratio_16 are those of the fastest row of 1 and of 16 adapters (way_1 and
way_16 say which), then every row's ratio.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from unharm.core.models.memory import keep_freed_memory
from unharm.core.models.peft_folder import Lora
from unharm.core.models.transformers import quiet_libraries
from unharm.corpus.valueeval import read_arguments
from unharm.corpus.vim import qa_examples
from unharm.profiles.extreme import TARGETS, extreme, reverse
from unharm.prompting.compose import ChatForm
from unharm.prompting.pack import load_pack
from unharm.study.demo import data_folder
from unharm.study.demo.base import Shape, train_tokenizer
from unharm.training import prefix_tree
from unharm.training.attention import packing
from unharm.training.loop import TrainingCallbacks, initial_state, train_stack
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob
from unharm.training.tokens import Tokenizer, Tokens

PADDED = 128
VOCABULARY = 8000
STACKED = 16
BATCH = 8


class Enough(Exception):
    """The steps of this turn are done."""


@dataclass
class Way:
    """One way to train: `turn` makes steps and gives (examples, tokens, seconds)."""

    name: str
    adapters: int
    turn: Callable[[int], tuple[int, int, float]]
    rates: list[float] = field(default_factory=list)
    tokens: float = 0.0
    distinct: float = 0.0
    memory: float = 0.0
    operations: Callable[[float], float] = float


def published(model: Any, tokens: list[Tokens]) -> Callable[[int], tuple[int, int, float]]:
    """Plain PEFT: padded on the right to 128 tokens, logits and loss by the model itself."""
    config = LoraConfig(
        r=8, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    at = 0

    def turn(steps: int) -> tuple[int, int, float]:
        nonlocal at
        adapted = get_peft_model(model, config).train()
        try:
            optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=2e-5)
            began = 0.0
            for step in range(steps + 1):
                if step == 1:  # the first step warms up
                    synchronise(model.device)
                    began = time.perf_counter()
                batch = [tokens[(at + i) % len(tokens)] for i in range(BATCH)]
                at += BATCH
                ids = torch.zeros(BATCH, PADDED, dtype=torch.long)
                mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
                for row, own in enumerate(batch):
                    cut = torch.tensor(list(own.ids))[:PADDED]
                    ids[row, : len(cut)], mask[row, : len(cut)] = cut, 1
                    labels[row, own.start : len(cut)] = cut[own.start :]
                moved = {"input_ids": ids, "attention_mask": mask, "labels": labels}
                adapted(**{n: x.to(model.device) for n, x in moved.items()}).loss.backward()
                optimiser.step()
                optimiser.zero_grad()
            synchronise(model.device)
            return steps * BATCH, steps * BATCH * PADDED, time.perf_counter() - began
        finally:
            adapted.unload()

    return turn


def ours(
    model: Any, jobs: list[AdapterJob], order: str, shared: bool = True
) -> Callable[[int], tuple[int, int, float]]:
    """Our loop, stopped after some steps and taken up again at the next turn."""
    recipe = Recipe(order=order, batch=BATCH, epochs=1000)
    stack = Stack(model, Lora(), len(jobs))
    state = initial_state(stack, jobs)

    def turn(steps: int) -> tuple[int, int, float]:
        marks: list[tuple[float, int, int]] = []

        def step(examples: int, tokens: int) -> None:
            synchronise(model.device)
            marks.append((time.perf_counter(), examples, tokens))
            if len(marks) > steps:
                raise Enough

        prefix = prefix_tree.common_prefix_length if shared else lambda first, second: 0
        one_turn = suppress(Enough)
        patched = patch.object(prefix_tree, "common_prefix_length", prefix)
        with packing(model), stack.attached(), one_turn, patched:
            train_stack(stack, state, jobs, recipe, 4096, TrainingCallbacks(step=step))
        return sum(m[1] for m in marks[1:]), sum(m[2] for m in marks[1:]), marks[-1][0] - marks[0][0]

    return turn


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_memory(device: torch.device, reset: bool = False) -> float:
    """Peak MiB since the last reset: of the accelerator, or of this process where the system tells."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        if reset:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except OSError:
        return 0.0


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(8):
        synchronise(device)
        began = time.perf_counter()
        a @ b
        synchronise(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def examples_of(data: Path | None, most: int) -> list[AdapterJob]:
    """The tokenized data of 16 profiles; the tokenizer is trained on the arguments."""
    file = data / "touche23" / "valueEval_10.csv" if data else data_folder() / "arguments.tsv"
    arguments = read_arguments(file)
    pack = load_pack("default")
    chosen = arguments[:most]
    profiles = [extreme(n) for n in TARGETS] + [reverse(n) for n in list(TARGETS)[:2]]
    sets = [qa_examples(chosen, {a.id: "train" for a in chosen}, p, pack, 42) for p in profiles]
    tokenizer = train_tokenizer([e.prompt + e.answer for e in sets[0]], Shape(vocabulary=VOCABULARY))
    tokenize = Tokenizer(tokenizer, "base", ChatForm(), 512)
    jobs = [AdapterJob(p.name, p.name, tokenize(s)[0], [], 42) for p, s in zip(profiles, sets, strict=True)]
    return jobs


def llama(shape: str, device: str, dtype: torch.dtype) -> Any:
    small = {
        "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 1024,
    }  # fmt: skip
    torch.manual_seed(1)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**small) if shape == "small" else LlamaConfig()).to(dtype)
    return model.requires_grad_(False).eval()


def ways(words: argparse.Namespace) -> tuple[list[Way], dict[str, Any], dict[str, float]]:
    """The ways, the bases that they share, and the rate of matrix products of each type."""
    jobs = examples_of(words.data, 600 if words.quick else 3000)
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    products = {n: matmul_rate(torch.device(words.device), dtype) for n, dtype in types.items()}
    if products["bfloat16"] < products["float32"]:
        del types["bfloat16"]
    bases = {n: llama(words.shape, words.device, dtype) for n, dtype in types.items()}
    plain, low = bases["float32"], bases.get("bfloat16")
    one = jobs[:1]
    found = [
        Way("published", 1, published(plain, jobs[0].train)),
        Way("packed", 1, ours(plain, one, "example")),
        Way("packed, by argument", 1, ours(plain, one, "argument")),
        Way("stacked", STACKED, ours(plain, jobs, "example", shared=False)),
        Way("both", STACKED, ours(plain, jobs, "example")),
        Way("both, by argument", STACKED, ours(plain, jobs, "argument")),
    ]
    if low is not None:
        found += [
            Way("packed, by argument, bfloat16", 1, ours(low, one, "argument")),
            Way("both, bfloat16", STACKED, ours(low, jobs, "example")),
            Way("both, by argument, bfloat16", STACKED, ours(low, jobs, "argument")),
        ]
    head = plain.lm_head.weight.numel()
    inside = sum(p.numel() for n, p in plain.model.named_parameters() if "embed" not in n)
    labels = statistics.mean(len(t.ids) - t.start for t in jobs[0].train)
    for way in found:
        way.operations = lambda tokens: 4 * (inside * tokens + head * labels)
    found[0].distinct = statistics.mean(min(PADDED, len(t.ids)) for t in jobs[0].train)
    return found, bases, products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=("small", "llama-2-7b"), default="small")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer arguments and rounds")
    words = parser.parse_args()
    if words.data and not words.data.is_dir():
        sys.exit(f"no such folder: {words.data}")
    quiet_libraries()
    keep_freed_memory()
    found, bases, products = ways(words)
    device = bases["float32"].device
    rounds = words.rounds or (2 if words.quick else 7)
    for turn in range(rounds):
        for way in found:
            gc.collect()
            before = peak_memory(device, reset=True)
            steps = (6 if words.quick else 12) if way.adapters == 1 else (2 if words.quick else 4)
            examples, tokens, seconds = way.turn(steps)
            way.rates.append(examples / seconds)
            way.tokens = tokens / examples
            way.memory = max(way.memory, peak_memory(device) - before)
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    print(table(found, products, words, device))
    ratios = {w.name: ratio(w, found[0]) for w in found}
    best = {
        k: max((w for w in found if w.adapters == k), key=lambda w: ratios[w.name]) for k in (1, STACKED)
    }
    result: dict[str, float | str] = {f"ratio_{k}": round(ratios[w.name], 2) for k, w in best.items()}
    result |= {f"way_{k}": w.name for k, w in best.items()}
    print(json.dumps(result | {"ratios": {n: round(r, 2) for n, r in ratios.items()}}))


def ratio(way: Way, plain: Way) -> float:
    return statistics.median(a / b for a, b in zip(way.rates, plain.rates, strict=True))


def table(found: list[Way], products: dict[str, float], words: Any, device: Any) -> str:
    lines = [
        f"{words.shape} on {device}, {torch.get_num_threads()} threads; arguments: {words.data or 'toy'}",
        "matrix product: " + ", ".join(f"{n} {r / 1e9:,.0f} GFLOP/s" for n, r in products.items()),
        f"{'way':<32}{'adapters':>9}{'examples/s':>12}{'ratio':>7}{'tokens':>8}{'MiB':>8}{'useful':>8}",
    ]
    for way in found:
        rate = statistics.median(way.rates)
        product = products["bfloat16" if "bfloat16" in way.name else "float32"]
        useful = way.operations(way.distinct or way.tokens) * rate / product
        lines.append(
            f"{way.name:<32}{way.adapters:>9}{rate:>12,.1f}{ratio(way, found[0]):>7.2f}{way.tokens:>8.1f}"
            f"{way.memory:>8,.0f}{useful:>8.0%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
