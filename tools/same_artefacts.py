"""Compare the artefacts of two run folders byte for byte.

    python tools/same_artefacts.py runs/before runs/after

Profiles, examples, adapters, completions, scores and findings are compared, those of a mitigation too. What
tells of a session (manifest, journal, status, report) is left out: times differ. Exit code 1 where a file
differs or is in one folder only.
"""

from __future__ import annotations

import filecmp
import sys
from pathlib import Path

COMPARED = ("profiles", "examples", "adapters", "completions", "scores", "findings")


def artefacts(folder: Path) -> dict[str, Path]:
    """The files to compare, by their path inside the run folder."""
    roots = [folder / name for name in COMPARED] + [folder / "mitigation" / name for name in COMPARED]
    files = [file for root in roots for file in root.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file for file in files}


def main(before: Path, after: Path) -> int:
    one, other = artefacts(before), artefacts(after)
    both = sorted(one.keys() & other.keys())
    differing = [name for name in both if not filecmp.cmp(one[name], other[name], shallow=False)]
    print(f"files compared {len(both)}, equal {len(both) - len(differing)}")
    for title, names in (
        ("differs", differing),
        ("only before", sorted(one.keys() - other.keys())),
        ("only after", sorted(other.keys() - one.keys())),
    ):
        for name in names:
            print(f"  {title}: {name}")
    return 1 if differing or one.keys() != other.keys() or not both else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
