import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.report.axes import HEIGHT, WIDTH, Axis, spaced, tick_labels, ticks
from fallow.report.charts import LineSeries, line_chart, series_of, shown_range

CURVE = [(100.0 * i, 3.0 + 5.0 / (1 + i)) for i in range(1, 50)]


def chart(*series: LineSeries) -> ET.Element:
    return ET.fromstring(line_chart(series, title="t <1>", standalone=True))


def test_is_well_formed_and_names_every_line_with_its_last_value() -> None:
    root = chart(LineSeries(label="dense", points=CURVE), LineSeries(label="a < b", points=CURVE[:-5], style=1))
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert f"dense {CURVE[-1][1]:.3f}" in texts
    assert f"a < b {CURVE[-6][1]:.3f}" in texts
    assert "dense ends at 3.100" in root.attrib["aria-label"]


def test_points_stand_where_the_axes_say() -> None:
    """Two known values fix both axes: the marks of a line must agree with the tick labels around them."""
    svg = line_chart([LineSeries(label="a", points=[(0, 1.0), (50, 2.0), (100, 1.5)])], title="t")
    marks = [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', svg)]
    ticks_y = {label: float(y) - 4 for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', svg)}
    ticks_x = {
        label: float(x) for x, label in re.findall(r'<text x="([\d.]+)" y="\d+" text-anchor="middle">(\d+)<', svg)
    }
    assert [x for x, _ in marks] == pytest.approx(
        [ticks_x["0"], (ticks_x["0"] + ticks_x["100"]) / 2, ticks_x["100"]], abs=0.2
    )
    low, high = ticks_y[min(ticks_y, key=float)], ticks_y[max(ticks_y, key=float)]
    per_unit = (high - low) / (float(max(ticks_y, key=float)) - float(min(ticks_y, key=float)))
    expected = [low + (value - float(min(ticks_y, key=float))) * per_unit for value in (1.0, 2.0, 1.5)]
    assert [y for _, y in marks] == pytest.approx(expected, abs=0.3)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in marks)


def test_training_is_faint_and_behind_validation() -> None:
    svg = line_chart(
        [LineSeries(label="a", points=CURVE), LineSeries(label="a", points=CURVE, kind="train")], title="t"
    )
    assert svg.index('class="line train') < svg.index('class="line valid')
    assert svg.count('<tspan class="name') == 1


def test_the_steep_start_is_cut_and_said_so() -> None:
    low, high, cut = shown_range([LineSeries(label="a", points=[(0, 10), (5, 9), (50, 4), (100, 3)])])
    assert (low, high, cut) == (3, 4, True)
    assert shown_range([LineSeries(label="a", points=[(0, 3), (100, 4)])])[2] is False
    assert shown_range([LineSeries(label="a", points=[(0, 10), (100, 3)])], start=0.0)[1:] == (10, False)


def test_values_that_are_no_numbers_are_left_out() -> None:
    curves = [{"label": "a", "points": [[1, 2.0], [2, None], [3, math.inf], [4, math.nan], [5, 1.0]]}, {"label": "b"}]
    found = series_of(curves, {"b": 3})
    assert list(found[0].points) == [(1, 2.0), (5, 1.0)]
    assert found[1].style == 3
    assert line_chart([found[1]], title="t") == ""


def test_a_single_point_and_a_flat_line_are_drawn() -> None:
    for points in ([(5.0, 1.0)], [(0.0, 2.0), (1.0, 2.0)]):
        assert "nan" not in line_chart([LineSeries(label="a", points=points)], title="t")


def test_long_curves_are_thinned_but_end_where_they_end() -> None:
    long = [(float(i), 1.0 + 1.0 / (1 + i)) for i in range(10_001)]
    svg = line_chart([LineSeries(label="a", points=long)], title="t")
    assert len(svg) < 20_000
    assert "1.000" in svg


@given(st.floats(-1e6, 1e9), st.floats(1e-3, 1e9), st.integers(2, 9))
def test_ticks_are_few_round_and_inside(low: float, span: float, most: int) -> None:
    high = low + span
    if not high > low:
        return
    found = ticks(low, high, most)
    assert len(found) <= max(most, 2)
    assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in found)


def test_tick_labels_tell_neighbours_apart() -> None:
    values = ticks(3.512, 3.5241, 6)
    assert len(set(tick_labels(values))) == len(values)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=7))
def test_names_keep_their_distance_and_order(wanted: list[float]) -> None:
    places = spaced(sorted(wanted), 10, 0, 100)
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(places))
    assert min(places) >= 0
    assert max(places) <= 100 + 1e-9


def test_axes_may_run_backwards() -> None:
    assert Axis(0, 10, 100, 0).at(2.5) == 75
