"""LoRA adapters of one shape, stacked over one frozen base (Hu et al., 2021, equation 3).

All weights of K adapters are one tensor [K, size]. Each target module has views of it: A [K, r, in] and the
transpose of B [K, r, out]. Row k of a batch goes through adapter k, in one batched product per matrix.
The scaling is alpha / r. A starts uniform as in PEFT, B starts at zero.

Worked example. Two adapters of rank 1 on two modules, `q` (3 inputs, 2 outputs) and `v` (3 inputs,
1 output). One adapter has (3 + 2) + (3 + 1) = 9 weights::

    column       0    1    2     3    4     5    6    7     8
    weights[0]   q.A  q.A  q.A   q.B  q.B   v.A  v.A  v.A   v.B      adapter 0
    weights[1]   q.A  q.A  q.A   q.B  q.B   v.A  v.A  v.A   v.B      adapter 1

    modules["q"].a = weights[:, 0:3]   as [2, 1, 3]
    modules["q"].b = weights[:, 3:5]   as [2, 1, 2]
    modules["v"].a = weights[:, 5:8]   as [2, 1, 3]
    modules["v"].b = weights[:, 8:9]   as [2, 1, 1]

So one optimiser step on `weights` updates every matrix of every adapter. The example is checked by
`tests/training/test_stacked_lora_example.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from unharm.core.errors import UserError
from unharm.core.models.peft_folder import ALL_LINEAR, PUBLISHED_TARGETS, Lora
from unharm.core.models.transformers import replace_module
from unharm.training.dropout import Draw, Mask, counter_masks, host_masks


class LoraDelta(torch.autograd.Function):
    """Compute `base + scaling · B A (keep · x)` for K stacked adapters.

    Gradients of A and B are added to `module.grad_a` and `module.grad_b`. The products are ordered so that
    no tall thin matrix is transposed, which is several times slower on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        base: torch.Tensor,
        x: torch.Tensor,
        module: StackedLinear,
        token: torch.Tensor,
    ) -> torch.Tensor:
        """Return the output [K, length, out] in the type of `x`.

        Args:
            ctx: State for the backward pass.
            base: Output of the frozen module [K, length, out].
            x: Its input [K, length, in].
            module: The module with the stacked matrices.
            token: A scalar that requires a gradient, so that autograd calls `backward` even if `x` needs
                none.
        """
        keep = None if module.mask is None else module.mask()[:, -x.shape[1] :]  # the last layer is trimmed
        low_a, low_b = module.a.to(x.dtype), module.b.to(x.dtype)
        inner = torch.bmm(x if keep is None else x * keep, low_a.transpose(1, 2))
        ctx.save_for_backward(x, low_a, low_b, inner, keep)
        ctx.module, ctx.scaling = module, module.scaling * module.mask_scale
        return torch.baddbmm(base, inner, low_b, alpha=ctx.scaling)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Add the gradients of A and B to the module; return those of `base` and `x`."""
        x, a, b, inner, keep = ctx.saved_tensors
        module: StackedLinear = ctx.module
        grad = grad.contiguous()
        inner_grad = torch.bmm(grad, b.transpose(1, 2)) * ctx.scaling
        module.grad_b.add_(torch.bmm(inner.transpose(1, 2), grad), alpha=ctx.scaling)
        module.grad_a.add_(torch.bmm(inner_grad.transpose(1, 2), x if keep is None else x * keep))
        grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = torch.bmm(inner_grad, a)
            if keep is not None:
                grad_x = grad_x * keep
        return grad, grad_x, None, None


class StackedLinear(nn.Module):
    """A frozen linear module with K adapters: row k of the input [K, length, in] goes through adapter k.

    Attributes:
        base: The frozen module.
        scaling: alpha / r.
        a: A of every adapter [K, r, in], a view of the stack's weights.
        b: B transposed [K, r, out], a view of the stack's weights.
        grad_a: Gradients of `a`, a view of the stack's gradients.
        grad_b: Gradients of `b`, a view of the stack's gradients.
        mask: Returns the dropout mask of the current pass; None without dropout.
        mask_scale: What the mask lacks: 1 / (1 - rate) for a mask of booleans, else 1.
    """

    def __init__(
        self, base: nn.Module, pair: list[torch.Tensor], grads: list[torch.Tensor], scaling: float
    ):
        super().__init__()
        self.base, self.scaling = base, scaling
        self.a, self.b = pair
        self.grad_a, self.grad_b = grads
        self.mask: Mask | None = None
        self.mask_scale = 1.0
        self.token = torch.zeros((), requires_grad=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output [K, length, out] for the input [K, length, in]."""
        out: torch.Tensor = LoraDelta.apply(self.base(x), x, self, self.token)  # type: ignore[no-untyped-call]
        return out


def target_modules(model: nn.Module, targets: list[str]) -> dict[str, nn.Linear]:
    """Return the linear modules whose name is, or ends with, one of `targets`, as PEFT matches them.

    `all-linear` matches every linear module but the output layer. Where the published targets match nothing
    because queries, keys and values are one module, that module takes their place.

    Raises:
        UserError: Some targets match nothing, or a module that is not linear. All are named.
    """
    if ALL_LINEAR in targets:
        head = getattr(model, "get_output_embeddings", lambda: None)()
        return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    if sorted(targets) == sorted(PUBLISHED_TARGETS):
        targets = _fused_targets(model) or targets
    linear_modules: dict[str, nn.Linear] = {}
    problems = []
    for target in targets:
        matched = [n for n, _ in model.named_modules() if n == target or n.endswith("." + target)]
        not_linear = [n for n in matched if not isinstance(model.get_submodule(n), nn.Linear)]
        if not matched:
            problems.append(f"{target!r} matches no module of the base")
        elif not_linear:
            problems.append(f"{target!r} matches {not_linear[0]}, which is no linear module")
        linear_modules |= {n: model.get_submodule(n) for n in matched if n not in not_linear}
    if problems:
        linear = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        raise UserError(
            "; ".join(problems), "training.lora.targets", "expected some of: " + ", ".join(sorted(linear))
        )
    order = [n for n, _ in model.named_modules() if n in linear_modules]
    return {n: linear_modules[n] for n in order}


FUSED = ("qkv_proj", "query_key_value", "Wqkv", "c_attn")
"""Names of modules that compute queries, keys and values together, as in Phi-3 and GPT-NeoX."""


def _fused_targets(model: nn.Module) -> list[str]:
    """Return what takes the place of the published targets in a model; empty if it has them."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if "kv_b_proj" in names:  # latent attention: keys and values come from one module
        return [name for name in ("q_proj", "q_b_proj", "kv_b_proj") if name in names]
    if names & set(PUBLISHED_TARGETS):
        return []
    return [name for name in FUSED if name in names]


class Stack:
    """K adapters of one base.

    Attributes:
        weights: Weights of all adapters [K, size].
        grads: Their gradients [K, size].
        modules: The stacked modules by name, with views of `weights` and `grads`.
        targets: The frozen modules by name.
        size: Number of weights of one adapter.
        counter_masks: Whether dropout masks are drawn on the device, as on an accelerator.
    """

    def __init__(self, model: Any, lora: Lora, count: int):
        self.model, self.lora = model, lora
        self.targets = target_modules(model, list(lora.targets))
        shapes = {n: (m.in_features, m.out_features) for n, m in self.targets.items()}
        self.size = sum(lora.r * (i + o) for i, o in shapes.values())
        device = next(model.parameters()).device
        self.counter_masks: bool = device.type != "cpu"
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
        """Return the initial weights [size] for a seed.

        A is uniform within ±1/√in, as in PEFT (Kaiming with a = √5). B is zero, so the adapter changes
        nothing yet.
        """
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for module in self.modules.values():
            a, b = module.a[0], module.b[0]
            bound = a.shape[1] ** -0.5
            parts += [(torch.rand(a.numel(), generator=generator) * 2 - 1) * bound, torch.zeros(b.numel())]
        return torch.cat(parts)

    def peft_tensors(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the weights [size] of one adapter by tensor name in a PEFT folder."""
        named, offset = {}, 0
        for name, module in self.modules.items():
            for letter, matrix in (("A", module.a[0]), ("B", module.b[0])):
                part = weights[offset : offset + matrix.numel()].view(matrix.shape)
                named[f"base_model.model.{name}.lora_{letter}.weight"] = part if letter == "A" else part.T
                offset += part.numel()
        return named

    def weights_from_peft(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the weights [size] for the tensors of a PEFT folder: the inverse of `peft_tensors`.

        Raises:
            KeyError: A tensor is missing.
            ValueError: A tensor is unexpected or has another shape.
        """
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
        """Replace the target modules of the model by the stacked ones inside the context."""
        try:
            for name, module in self.modules.items():
                replace_module(self.model, name, module)
            yield
        finally:
            for name, base in self.targets.items():
                replace_module(self.model, name, base)

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Put the target modules of the base back inside the context, within `attached`."""
        try:
            for name, base in self.targets.items():
                replace_module(self.model, name, base)
            yield
        finally:
            for name, module in self.modules.items():
                replace_module(self.model, name, module)

    def set_dropout(self, draw: Draw | None) -> None:
        """Set the dropout masks of the next forward pass; None for no dropout."""
        rate, modules = self.lora.dropout, list(self.modules.values())
        masks: Sequence[Mask | None] = [None] * len(modules)
        if rate and draw is not None:
            widths, device = [module.a.shape[2] for module in modules], self.weights.device
            if self.counter_masks:
                masks = counter_masks(draw, widths, rate, device)
            else:
                masks = host_masks(draw, widths, rate, device, self.model.dtype)
        for module, mask in zip(modules, masks, strict=True):
            module.mask = mask
            module.mask_scale = 1 / (1 - rate) if mask is not None and self.counter_masks else 1.0
