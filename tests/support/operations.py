"""Count what work costs on an accelerator, on a machine without one.

Two modes of torch watch this thread: one sees every operator, the other every function called on tensors. Where
the tests run on a CPU, code that takes its device from a tensor takes the same way as on an accelerator, and a
call that would make the processor wait there is seen by its name and arguments.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING_OPERATORS = {
    "_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2", "unique_dim",
    "unique_consecutive", "equal", "is_nonzero", "repeat_interleave", "histc",
}  # fmt: skip
"""Operators whose result, or the shape of it, must be known to the processor."""
WAITING_CALLS = {"tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"}
"""Functions that read numbers back."""
COPYING_CALLS = {"to", "cuda", "copy_"}
"""Functions that wait unless told `non_blocking`, where they are given another device. Models call `to` on
buffers that are on their device already, so only calls of this project count."""
CREATING_CALLS = {"tensor", "as_tensor"}
"""Functions that make a tensor of numbers; with a device, they copy and wait."""


class Operations(TorchDispatchMode):
    """Counts what happens inside.

    Attributes:
        operators: How often each operator ran; views are operators too.
        waits: How often the processor would wait for an accelerator, by what it does.
        copies: Number of copies to or from an accelerator.
        copied: Their bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.copies = self.copied = 0
        self._calls = _Calls(self)

    @property
    def total(self) -> int:
        """Number of operators that ran."""
        return self.operators.total()

    def __enter__(self) -> Operations:
        self._calls.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._calls.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.operators[name] += 1
        by_mask = name in ("index", "index_put_", "index_put") and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if by_mask or (name in WAITING_OPERATORS and not self._calls.reading):
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Sees calls that read numbers back or copy them."""

    def __init__(self, counts: Operations):
        super().__init__()
        self.counts = counts
        self.reading = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        sized = args[0] if args and isinstance(args[0], torch.Tensor) else None
        to_another = (
            name in COPYING_CALLS
            and ("device" in kwargs or any(isinstance(a, torch.device | str) for a in args[1:]))
            and "unharm" in sys._getframe(1).f_code.co_filename
        )
        created = name in CREATING_CALLS and kwargs.get("device") is not None
        if to_another and not kwargs.get("non_blocking"):
            self.counts.waits[name] += 1
        if name in WAITING_CALLS or created:
            self.counts.waits[name] += 1
        before, self.reading = self.reading, self.reading or name in WAITING_CALLS
        try:
            result = func(*args, **kwargs)
        finally:
            self.reading = before
        if to_another or created or name in WAITING_CALLS:
            moved = result if created else sized
            self.counts.copies += 1
            self.counts.copied += moved.numel() * moved.element_size() if moved is not None else 0
        return result


class Memory(TorchDispatchMode):
    """Follows the bytes of tensors that are made inside.

    Attributes:
        now: Bytes alive.
        peak: The most there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self._known:
            return
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size
