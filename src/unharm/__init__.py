"""unharm: measure, explain and reduce the harms of value-aligned language models.

    import unharm

    run = unharm.run("quickstart")
    run.table("comparisons")                       # a polars frame
    run.completions(benchmark="rtp", arm="vim")    # lazily
    run.prompt("rtp-0")                            # every arm's answer to one prompt, with scores

Importing this loads nothing else; each name below loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unharm.core.version import __version__

__all__ = [
    "RunHandle",
    "Study",
    "UserError",
    "__version__",
    "compare",
    "generate",
    "load_study",
    "open_run",
    "plan",
    "run",
    "score",
    "train",
]

_HOMES = {
    "RunHandle": "unharm.runs.handle",
    "Study": "unharm.study.spec",
    "UserError": "unharm.core.errors",
}
"""The modules of the names that are not in `_LIBRARY`."""
_LIBRARY = "unharm.runs.library"

if TYPE_CHECKING:
    from unharm.core.errors import UserError
    from unharm.runs.handle import RunHandle
    from unharm.runs.library import compare, generate, load_study, open_run, plan, run, score, train
    from unharm.study.spec import Study


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module 'unharm' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, _LIBRARY)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
