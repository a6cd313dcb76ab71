"""What is left of a piece that fails: rows that say so, which the next run makes again, and a file of
details."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unharm.executors.chunks import Chunk, Fault
from unharm.progress import say

if TYPE_CHECKING:
    from unharm.pipeline import Run


def give_up(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Records that the one piece of a chunk could not be done, and gives its name. Its completions have the
    status `failed`, its scores `unanswered`, an adapter a file in failed/; the next run tries all again."""
    if chunk.stage == "adapters":
        from unharm.training.stage import give_up_adapter

        name = give_up_adapter(run, chunk, fault)
    elif chunk.stage == "completions":
        from unharm.engines.stage import give_up_shard

        name = give_up_shard(run, chunk, fault)
    else:
        from unharm.scoring.stage import give_up_scores

        name = give_up_scores(run, chunk, fault)
    path = f"failed/details/{chunk.stage}-{name.replace('/', '-')}.txt"
    run.store.write_plain(path, f"{name}\n{fault.what}\n\n{fault.details}\n")
    say(f"{chunk.stage}: {name} failed: {fault.what}; details in {path}; the same command tries it again")
    return f"{name}: {fault.what}"
