"""Tell a failed call on an accelerator from an accelerator that takes no more work."""

from __future__ import annotations

import sys


def accelerator_dead() -> bool:
    """Return whether the accelerator of this process takes no work any more.

    After an illegal address, a failed assertion on the device or a hardware fault, every later call of the
    process fails: its context is dead, and only a new process gets another one. Tried with one addition, so
    that it depends on no wording of an error. A process that has used no accelerator has none to lose.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        torch.ones(1, device="cuda").add(1).item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False
