"""Tests of `unharm.report.profile_picture`."""

from __future__ import annotations

import pytest

from unharm.core.errors import UserError
from unharm.core.records import Profile
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme, reverse
from unharm.report.profile_picture import (
    comparison_text,
    find_profile,
    profile_bars,
    profile_comparison,
    profile_svg,
)


def test_pictures() -> None:
    profile = Profile("<b>x</b>", extreme("power").importances, "made up")
    drawn = profile_bars(profile)
    assert len(drawn.splitlines()) == 11
    assert "power          " + "█" * 30 + " 6.00" in drawn
    assert "hedonism       " + "·" * 30 + " 1.00" in drawn
    picture = profile_svg(profile)
    assert picture.startswith("<svg")
    assert "<b>" not in picture


def test_comparison() -> None:
    found = profile_comparison(extreme("power"), reverse("power"))
    assert found["rank_correlation"] == pytest.approx(-1)
    assert found["differences"] == {v: -5.0 if v == "power" else 5.0 for v in VALUES}
    assert profile_comparison(extreme("power"), extreme("power"))["jensen_shannon"] == 0
    assert "rank correlation –" in comparison_text(extreme("power"), Profile("flat", (3.0,) * 10))
    with pytest.raises(UserError, match="did you mean 'power'"):
        find_profile([extreme("power")], "powr")
