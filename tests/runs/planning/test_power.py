"""What `plan --power` says of a study: nothing that its profiles could not show."""

from __future__ import annotations

import numpy as np
import pytest

from unharm.core.errors import UserError
from unharm.profiles.extreme import TARGETS, extreme
from unharm.runs.planning.power import Assumed, assumed_of, why_nothing


def test_fourteen_extremes_can_show_nothing_over_many_tests() -> None:
    extremes = np.array([extreme(name).importances for name in TARGETS])
    assert "descriptive" in why_nothing(extremes, 14, 330, 0.05)
    assert "too few targets" in why_nothing(np.repeat(extremes[:2], 11, axis=0), 2, 330, 0.05)
    assert "too few" in why_nothing(extremes[:4], 4, 10, 0.05)


def test_assumptions_of_the_command_line() -> None:
    assert assumed_of([]) == Assumed()
    given = assumed_of(["base=0.02", "base=0.2", "shared=0.5", "unscored=0", "sensitivity=1"])
    assert given == Assumed((0.02, 0.2), 0.5, 0.0, 1.0)
    with pytest.raises(UserError) as caught:
        assumed_of(["bass=1", "shared=1", "unscored=x", "base=0.7", "sensitivity=0.9", "sensitivity=0.8"])
    for message in ("did you mean 'base'", "shared='1' is not possible", "unscored='x'", "0.62", "2 times"):
        assert message in str(caught.value)
