"""Maps between scorers: what a study needs of one, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unharm.analysis.bridge import Bridge, bridge_from
from unharm.analysis.calibration import Calibration, calibration_from
from unharm.core.errors import UserError
from unharm.core.files.disk import write_whole
from unharm.core.files.json_text import NotJson, parse_json
from unharm.core.files.yaml_text import read_text

KINDS: dict[str, Callable[[dict[str, Any]], Calibration | Bridge]] = {
    "calibration": calibration_from,
    "bridge": bridge_from,
}


class ArmMap(Protocol):
    """The map of one arm. `name` and `key` say in tables where a number comes from."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...

    def drawn(self, values: np.ndarray, keys: Sequence[str], number: int) -> np.ndarray:
        """Return one imputation of what the other scorer would say."""
        ...


def save_map(fitted: Calibration | Bridge, path: Path) -> None:
    """Write a map to a file. Raises `UserError` where the file cannot be written."""
    kind = "bridge" if isinstance(fitted, Bridge) else "calibration"
    text = json.dumps({"kind": kind, "version": 1, **asdict(fitted)}, ensure_ascii=False)
    write_whole(path, text.encode(), "the map")


def load_map(path: Path) -> Calibration | Bridge:
    """Read a map from its file. Raises `UserError` where it is none."""
    try:
        data = parse_json(read_text(path, "map of scores"))
        return KINDS[data.pop("kind", "calibration")](data)
    except (NotJson, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"not a map of scores ({type(error).__name__})",
            str(path),
            "make it with 'unharm pilot' or 'unharm calibrate'",
        ) from None
