"""A base that vLLM's kernels for CPUs can run (heads of 32), and adapters that change what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

OPTIONS = tuple(f" {n}" for n in range(1, 7))


def train(folder: Path) -> Path:
    """Train a Llama of 64 × 2 layers with two heads on toy text."""
    from unharm.study.demo.base import Shape, train_base
    from unharm.study.demo.world import documents

    shape = Shape(hidden=64, layers=2, heads=2, vocabulary=600, context=512, window=64, batch=8, steps=120)
    train_base(documents(3)[:800], folder, shape, seed=1)
    return folder


def adapters(base: Path, folder: Path, count: int, scale: float = 0.3) -> list[Path]:
    """Write PEFT adapters with random weights; with a scale of 0 they change nothing."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = []
    for number in range(count):
        torch.manual_seed(number)
        model: Any = AutoModelForCausalLM.from_pretrained(base)
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, scale) if scale else weight.data.zero_()
        made.append(folder / f"{number:04d}x{scale}")
        model.save_pretrained(made[-1])
    return made
