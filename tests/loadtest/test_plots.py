"""The page of a scenario: that it holds what was measured, and nothing from elsewhere."""

import re
from xml.etree import ElementTree as ET

import pytest

from loadtest.charts import charts
from loadtest.crowd import Beat
from loadtest.plots import Chart, page, step_of, svg
from loadtest.timeline import Sample

SVG = Chart("Memory <of all>", "MiB", {"PSS": [(0.0, 10.0), (5.0, 50.0), (10.0, 30.0)]})


@pytest.mark.parametrize(
    ("most", "step"), [(50.0, 10.0), (51.0, 20.0), (7.0, 2.0), (0.04, 0.01), (0.0, 1.0)]
)
def test_ticks_are_round_and_reach_the_most(most: float, step: float) -> None:
    assert step_of(most) == pytest.approx(step)


def test_points_stand_where_they_belong() -> None:
    drawn = ET.fromstring(svg(SVG, 10.0, marks=[5.0]))
    line = drawn.find("polyline")
    assert line is not None
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0
    assert y1 == pytest.approx(12.0)
    dashed = [path for path in drawn.findall("path") if "stroke-dasharray" in path.attrib]
    assert [path.attrib["d"] for path in dashed] == [f"M{x1:.1f} 12V212"]


def test_a_page_needs_nothing_else() -> None:
    text = page("a <title>", "lost: 0", [SVG], 10.0)
    assert "lost: 0" in text
    assert "a &lt;title&gt;" in text
    assert "<title>a <title>" not in text
    assert not re.search(r"https?:|src=|href=|@import", text)


def test_the_charts_show_what_was_asked_for() -> None:
    beats = [Beat(101.0 + n, 1.0, 100, 0, 5, 1.0, 2.0, 3.0 + n, 9.0, {}) for n in range(3)]
    samples = [Sample(100.0 + n, 0.05 * n, (60 + n) << 20, 40, 3) for n in range(4)]
    found = {chart.title: chart.lines for chart in charts({"get": beats}, samples)}
    assert found["Latency of get"]["p99"] == [(1.0, 3.0), (2.0, 4.0), (3.0, 5.0)]
    assert found["Throughput"]["get"] == [(1.0, 100.0), (2.0, 100.0), (3.0, 100.0)]
    assert found["Memory"]["PSS"][-1] == (3.0, 63.0)
    assert [round(us) for _, us in found["CPU time"]["CPU"]] == [500, 500, 500]
