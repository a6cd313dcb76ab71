"""LoRA adapters of one shape, stacked over one frozen base (Hu et al., 2021, equation 3).

All numbers of K adapters stand in one tensor [K, size]; every target module has views of it,
A [K, r, in] and the transpose of B [K, r, out]. Row k of a batch goes through adapter k: one batched
product per matrix instead of one per adapter. The scaling is alpha / r, A begins uniform as in PEFT,
B zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora
from unharm.core.models.transformers import replace_module


class LoraDelta(torch.autograd.Function):
    """`base + scaling · B A (keep · x)` for K stacked adapters, in the type of `x` [K, length, in].

    Gradients of A and B are added to `module.grad_a` and `module.grad_b`; `token` requires a
    gradient and gets none, so that autograd comes here even where `x` needs none. The products are
    ordered so that no tall thin matrix is transposed, which costs CPUs several times as much.
    """

    @staticmethod
    def forward(
        ctx: Any,
        base: torch.Tensor,
        x: torch.Tensor,
        module: StackedLinear,
        token: torch.Tensor,
    ) -> torch.Tensor:
        keep = None if module.keep is None else module.keep[:, -x.shape[1] :]  # the last layer is trimmed
        low_a, low_b = module.a.to(x.dtype), module.b.to(x.dtype)
        inner = torch.bmm(x if keep is None else x * keep, low_a.transpose(1, 2))
        ctx.save_for_backward(x, low_a, low_b, inner, keep)
        ctx.module = module
        return torch.baddbmm(base, inner, low_b, alpha=module.scaling)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, a, b, inner, keep = ctx.saved_tensors
        module: StackedLinear = ctx.module
        grad = grad.contiguous()
        inner_grad = torch.bmm(grad, b.transpose(1, 2)) * module.scaling
        module.grad_b.add_(torch.bmm(inner.transpose(1, 2), grad), alpha=module.scaling)
        module.grad_a.add_(torch.bmm(inner_grad.transpose(1, 2), x if keep is None else x * keep))
        grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = torch.bmm(inner_grad, a)
            if keep is not None:
                grad_x = grad_x * keep
        return grad, grad_x, None, None


class StackedLinear(nn.Module):
    """A frozen linear module with K adapters; row k of its input [K, length, in] goes through
    adapter k. `a`, `b` and their gradients are views of the stack's tensors; `keep` is the dropout
    mask with its scaling, which broadcasts over the input, or None."""

    def __init__(
        self, base: nn.Module, pair: list[torch.Tensor], grads: list[torch.Tensor], scaling: float
    ):
        super().__init__()
        self.base, self.scaling = base, scaling
        self.a, self.b = pair
        self.grad_a, self.grad_b = grads
        self.keep: torch.Tensor | None = None
        self.token = torch.zeros((), requires_grad=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = LoraDelta.apply(self.base(x), x, self, self.token)  # type: ignore[no-untyped-call]
        return out


def target_modules(model: nn.Module, targets: list[str]) -> dict[str, nn.Linear]:
    """The linear modules whose name is, or ends with, one of `targets`, as PEFT matches them.

    Raises `UserError` naming every target that matches nothing, or something that is not linear.
    """
    found: dict[str, nn.Linear] = {}
    problems = []
    for target in targets:
        matched = [n for n, _ in model.named_modules() if n == target or n.endswith("." + target)]
        wrong = [n for n in matched if not isinstance(model.get_submodule(n), nn.Linear)]
        if not matched:
            problems.append(f"{target!r} matches no module of the base")
        elif wrong:
            problems.append(f"{target!r} matches {wrong[0]}, which is no linear module")
        found |= {n: model.get_submodule(n) for n in matched if n not in wrong}
    if problems:
        linear = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        raise UserError(
            "; ".join(problems), "training.lora.targets", "expected some of: " + ", ".join(sorted(linear))
        )
    order = [n for n, _ in model.named_modules() if n in found]
    return {n: found[n] for n in order}


class Stack:
    """K adapters of one base: `weights` and `grads` [K, size], and views of them per module."""

    def __init__(self, model: Any, lora: Lora, count: int):
        self.model, self.lora = model, lora
        self.targets = target_modules(model, list(lora.targets))
        shapes = {n: (m.in_features, m.out_features) for n, m in self.targets.items()}
        self.size = sum(lora.r * (i + o) for i, o in shapes.values())
        device = next(model.parameters()).device
        self.weights = torch.zeros(count, self.size, device=device)
        self.grads = torch.zeros_like(self.weights)
        self.modules: dict[str, StackedLinear] = {}
        offset = 0
        for name, (width_in, width_out) in shapes.items():
            pair, grads = [], []
            for shape in ((lora.r, width_in), (lora.r, width_out)):
                part = slice(offset, offset := offset + math.prod(shape))
                pair.append(self.weights[:, part].view(count, *shape))
                grads.append(self.grads[:, part].view(count, *shape))
            self.modules[name] = StackedLinear(self.targets[name], pair, grads, lora.alpha / lora.r)

    def initial_weights(self, seed: int) -> torch.Tensor:
        """The weights [size] that an adapter of this seed begins with: A uniform within
        1/sqrt(in), which is PEFT's (and Kaiming's with a = √5), B zero."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for module in self.modules.values():
            a, b = module.a[0], module.b[0]
            bound = a.shape[1] ** -0.5
            parts += [(torch.rand(a.numel(), generator=generator) * 2 - 1) * bound, torch.zeros(b.numel())]
        return torch.cat(parts)

    def peft_tensors(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        """Weights [size] of one adapter by their names in a PEFT folder."""
        named, offset = {}, 0
        for name, module in self.modules.items():
            for letter, own in (("A", module.a[0]), ("B", module.b[0])):
                part = row[offset : offset + own.numel()].view(own.shape)
                named[f"base_model.model.{name}.lora_{letter}.weight"] = part if letter == "A" else part.T
                offset += part.numel()
        return named

    def weights_from_peft(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """The inverse of `tensors`. Raises `KeyError` or `ValueError` where names or shapes differ."""
        expected = self.peft_tensors(torch.empty(self.size, device="meta"))
        if set(tensors) - set(expected):
            raise ValueError(f"unexpected tensors, for example {min(set(tensors) - set(expected))}")
        for name, shape in ((n, t.shape) for n, t in expected.items()):
            if tensors[name].shape != shape:
                raise ValueError(f"{name} is {list(tensors[name].shape)}, expected {list(shape)}")
        return torch.cat(
            [
                (t.T if ".lora_B." in n else t).float().flatten()
                for n, t in ((n, tensors[n]) for n in expected)
            ]
        )

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The target modules of the model carry the stack inside, and are themselves outside."""
        try:
            for name, module in self.modules.items():
                replace_module(self.model, name, module)
            yield
        finally:
            for name, base in self.targets.items():
                replace_module(self.model, name, base)

    def set_dropout(self, seeds: list[int], draw: tuple[int, ...], length: int, tail: int) -> None:
        """New dropout masks for one pass over rows of `length` tokens, the last `tail` of them
        predictors; no seeds, no dropout.

        A mask depends on the adapter's seed, the `draw` (epoch, step, pass), the module, and the
        token's place counted from its end of the row, so not on how many adapters are stacked.
        Adapters of one seed share their masks, as they would in runs of their own.
        """
        p, widths = self.lora.dropout, [module.a.shape[2] for module in self.modules.values()]
        keep = None
        if p and seeds:
            drawn = {s: _mask((s, *draw), length, tail, sum(widths), p) for s in dict.fromkeys(seeds)}
            masks = [drawn[s] for s in (seeds if len(drawn) > 1 else seeds[:1])]
            keep = torch.from_numpy(np.stack(masks)).to(self.weights.device, self._dtype)
        for number, module in enumerate(self.modules.values()):
            own = slice(sum(widths[:number]), sum(widths[: number + 1]))
            module.keep = None if keep is None else keep[:, :, own]

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype


def _mask(seed: tuple[int, ...], length: int, tail: int, width: int, p: float) -> np.ndarray:
    """0 where dropped, else 1 / (1 - p) [length, width]; 16-bit draws, so p is exact to 1/65536."""
    parts = []
    for end, count in enumerate((length - tail, tail)):
        draw = np.random.Generator(np.random.SFC64(np.random.SeedSequence((*seed, end))))
        numbers = np.frombuffer(draw.bytes(-(-count * width // 2) * 4), dtype=np.uint16)
        parts.append((numbers[: count * width] >= round(p * 65536)).reshape(count, width))
    return np.concatenate([parts[0], parts[1][::-1]]) * np.float32(1 / (1 - p))
