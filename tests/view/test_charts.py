"""Charts as SVG."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from unharm.view.charts import HEIGHT, WIDTH, Line, bar, line_chart

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(categories=["L", "P", "S"]), max_size=5),
            st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5),
        ),
        max_size=3,
    )
)
def test_every_point_is_inside(lines: list[tuple[str, list[tuple[float, float]]]]) -> None:
    drawn = line_chart("<losses>", [Line(name, points) for name, points in lines], "steps", "loss")
    if not any(points for _, points in lines):
        assert drawn == ""
        return
    root = ElementTree.fromstring(str(drawn))
    assert root.attrib["aria-label"] == "<losses>"
    tracks = [e.attrib["points"] for e in root if e.tag == "polyline"]
    assert len(tracks) == sum(len(points) > 1 for _, points in lines)
    for x, y in (place.split(",") for track in tracks for place in track.split()):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT


def test_bars_are_filled_by_their_share() -> None:
    assert 'width="25.0"' in bar(0.25, "a")
    assert 'width="100.0"' in bar(7, "a")
    assert 'aria-label="&lt;b&gt;"' in bar(0, "<b>")
