"""Mix LoRA adapters in one batch: every row goes through its own adapter (Hu et al., 2021, equation 3).

The matrices A of all adapters are stacked, so one product serves every row. A mask then sets the columns of
other adapters to zero before the product with the stacked matrices B. Each adapter starts at a multiple of
eight columns, because matrix libraries round small or uneven products differently.

Worked example. A batch of three rows: row 0 uses the adapter `x` (rank 1), row 1 the adapter `y` (rank 2),
row 2 is the plain base. The stacked A has 16 columns, `x` in 0 to 7 and `y` in 8 to 15::

    column           0   1-7   8   9   10-15
    stacked A        x    0    y   y     0

    row_mask row 0   1    1    0   0     0       only x passes
    row_mask row 1   0    0    1   1     1       only y passes
    row_mask row 2   0    0    0   0     0       nothing is added to the base

    output = base(input) + ((input · A) * row_mask) · B

The example is checked by `tests/engines/test_mixed_lora_example.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unharm.core.errors import UserError
from unharm.core.models.peft_folder import configuration, read_weights
from unharm.core.models.steering_folder import is_steering, read_steering
from unharm.core.models.transfer import column
from unharm.core.models.transformers import replace_module
from unharm.engines.kv_cache import TILE, round_up
from unharm.engines.row_shifts import RowShifts, check_shift

PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "fan_in_fan_out": (False, None),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "use_bdlora": (None, False),
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "use_qalora": (False, None),
}
"""Allowed configuration values of an adapter that can be mixed. Others need PEFT, one adapter at a time."""


@dataclass(frozen=True)
class Adapter:
    """What one adapter changes.

    Attributes:
        pairs: Matrices by module: A [r, in], and B [out, r] multiplied by the scaling.
        shift: What steering adds to the output of each decoder layer [layers, hidden]; None for LoRA.
    """

    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    shift: torch.Tensor | None = None

    @property
    def is_zero(self) -> bool:
        """Whether this is steering by nothing, as for a profile whose importances are all equal."""
        return self.shift is not None and not bool(self.shift.any())


def load_adapter(folder: Path, model: Any) -> Adapter | None:
    """Read an adapter from a PEFT folder, or a shift of the residual stream from a steering folder.

    Returns:
        The adapter; None if it has more than pairs of matrices on linear modules, so it cannot be mixed.

    Raises:
        UserError: It does not fit the base.
    """
    if is_steering(folder):
        shift = read_steering(folder)
        check_shift(shift, model, str(folder))
        return Adapter({}, shift)
    config, weights = configuration(folder), read_weights(folder)
    plain = all(config.get(name) in allowed for name, allowed in PLAIN.items())
    if not plain or not all(".lora_A." in name or ".lora_B." in name for name in weights):
        return None
    modules = dict(model.named_modules())
    pairs, problems = {}, []
    for name in sorted(n for n in weights if ".lora_A." in n):
        module = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
        a, b = weights[name].float(), weights[name.replace(".lora_A.", ".lora_B.")].float()
        base = modules.get(module)
        base = base.base if isinstance(base, MixedLinear) else base
        if base is None or not hasattr(base, "in_features"):
            problems.append(f"it has weights for {module}, which the base does not have")
            continue
        expected, shape = (base.out_features, base.in_features), (b.shape[0], a.shape[1])
        if expected != shape:
            problems.append(
                f"{module} is {shape[0]} × {shape[1]} in it, {expected[0]} × {expected[1]} in the base"
            )
            continue
        pairs[module] = (a.to(model.device), (b * _scaling(config, module, a.shape[0])).to(model.device))
    if problems or not pairs:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"the adapter does not fit the base: {problems[0] if problems else 'it has no weights'}{more}",
            str(folder),
            "use the base that it was made for",
        )
    return Adapter(pairs)


def _scaling(config: dict[str, Any], module: str, r: int) -> float:
    """Return alpha / r, or alpha / √r for rank-stabilised adapters."""
    from peft.utils.other import get_pattern_key

    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(patterns.keys(), module), config["lora_alpha"])
    return float(alpha) / (r**0.5 if config.get("use_rslora") else r)


class MixedLinear(nn.Module):
    """A linear module of the base, with the stacked matrices of the adapters in use.

    Attributes:
        base: The module of the base.
        a: A of all adapters, transposed [in, columns].
        b: B of all adapters, transposed [columns, out].
        row_mask: 1 in the columns of a token's adapter [tokens, columns]; None if no token has an adapter.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base
        self.a: torch.Tensor | None = None
        self.b: torch.Tensor | None = None
        self.row_mask: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output [1, tokens, out] for the input [1, tokens, in]."""
        out: torch.Tensor = self.base(x)
        if self.row_mask is None or self.a is None or self.b is None:
            return out
        if x.dtype == self.a.dtype:
            return out + ((x @ self.a) * self.row_mask) @ self.b
        inner = (x.to(self.a.dtype) @ self.a) * self.row_mask
        return (out + inner @ self.b).to(out.dtype)


class AdapterMixer:
    """The adapters in use on a model, and the adapter of every row.

    Attributes:
        adapters: The adapters in use, by name.
        modules: The replaced modules of the model, by name.
        spans: The columns of each adapter (start, end), by module.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.adapters: dict[str, Adapter] = {}
        self.modules: dict[str, MixedLinear] = {}
        self.spans: dict[str, list[tuple[int, int]]] = {}
        self._assigned: tuple[list[str], torch.Tensor] | None = None
        self._shifts = RowShifts(model)

    def use(self, adapters: dict[str, Adapter]) -> None:
        """Put these adapters, and no others, on the modules of the base."""
        if list(adapters) == list(self.adapters):
            return
        self.adapters, self._assigned = adapters, None
        shifts = {n: a.shift for n, a in enumerate(adapters.values()) if a.shift is not None}
        self._shifts.use(shifts, len(adapters))
        adapted = {m for adapter in adapters.values() for m in adapter.pairs}
        for name in sorted(set(self.modules) - adapted):
            replace_module(self.model, name, self.modules.pop(name).base)
        for name in sorted(adapted - set(self.modules)):
            self.modules[name] = MixedLinear(self.model.get_submodule(name))
            replace_module(self.model, name, self.modules[name])
        for name, module in self.modules.items():
            pairs = [adapter.pairs.get(name) for adapter in adapters.values()]
            example = next(p for p in pairs if p)
            ends = torch.tensor([round_up(p[0].shape[0], 8) if p else 0 for p in pairs]).cumsum(0).tolist()
            self.spans[name] = list(zip([0, *ends[:-1]], ends, strict=True))
            module.a = example[0].new_zeros(example[0].shape[1], max(TILE, ends[-1]))
            module.b = example[1].new_zeros(max(TILE, ends[-1]), example[1].shape[0])
            for pair, (start, _) in zip(pairs, self.spans[name], strict=True):
                if pair:
                    columns = slice(start, start + pair[0].shape[0])
                    module.a[:, columns], module.b[columns] = pair[0].T, pair[1].T

    def assign(self, names: list[str], rows: torch.Tensor) -> None:
        """Set the adapter of every row of the next pass.

        Args:
            names: Adapter of each row; empty for the plain base.
            rows: Row of each token [tokens].
        """
        if self._assigned and self._assigned[0] == names and self._assigned[1] is rows:
            return  # the same rows as in the last pass
        self._assigned = list(names), rows
        order = {name: number for number, name in enumerate(self.adapters)}
        numbers = column([order[n] if n else -1 for n in names], rows.device)
        any_adapter = any(names)
        self._shifts.assign(numbers[rows] if any_adapter else None)
        masks: dict[tuple[tuple[int, int], ...], torch.Tensor] = {}
        for name, module in self.modules.items():
            if not any_adapter:
                module.row_mask = None
                continue
            spans = tuple(self.spans[name])
            if spans not in masks:
                owner = [-2] * max(TILE, spans[-1][1])
                for number, (start, end) in enumerate(spans):
                    owner[start:end] = [number] * (end - start)
                masks[spans] = (numbers[:, None] == column(owner, rows.device)).float()[rows]
            module.row_mask = masks[spans]
