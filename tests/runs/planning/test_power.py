"""What `plan --power` says of a study: nothing that its profiles could not show."""

from __future__ import annotations

import numpy as np

from unharm.profiles.extreme import TARGETS, extreme
from unharm.runs.planning.power import why_nothing


def test_fourteen_extremes_can_show_nothing_over_many_tests() -> None:
    extremes = np.array([extreme(name).importances for name in TARGETS])
    assert "descriptive" in why_nothing(extremes, 14, 330, 0.05)
    assert "too few targets" in why_nothing(np.repeat(extremes[:2], 11, axis=0), 2, 330, 0.05)
    assert "too few" in why_nothing(extremes[:4], 4, 10, 0.05)
