"""Charts as SVG without a library: lines over tokens, points, small multiples, heat maps."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from fallow.report.axes import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    LETTER,
    TOP,
    WIDTH,
    Axis,
    ChartFrame,
    draw_axes,
    draw_ends,
    padded,
    short_number,
    spaced,
    styles,
    tick_labels,
    ticks,
)

_START = 0.15
_MOST_POINTS = 600
_DASHES = ("", "7 4", "2 3")
_POINT_LINE = 19

SMALL_WIDTH, SMALL_HEIGHT = 300, 205
_TOP, _BOTTOM, _SMALL_LEFT, _RIGHT = 26, 34, 50, 10

_MAP_LEFT, _HEAD, _CELL, _ROW = 74, 30, 108, 27
_LEGEND = 46
_DARK = 0.55
"""Shades above this share of the strongest carry light text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineSeries:
    """One line of a chart."""

    label: str
    points: Sequence[tuple[float, float]]

    kind: str = "valid"
    """`valid` is drawn strong, with a mark at each value and a label at its end; `train` faint behind it."""

    band: Sequence[tuple[float, float, float]] = ()
    """x, lowest and highest value: a shade behind the line, for the spread over seeds."""

    style: int = 0
    """Number of the colour; series of one model share it over all charts."""


def line_chart(
    series: Sequence[LineSeries],
    *,
    title: str,
    x_title: str = "tokens",
    y_title: str = "loss",
    start: float = _START,
    standalone: bool = False,
) -> Markup:
    """An SVG element: lines, axes, and at the end of each line its name and last value.

    Losses fall steeply at first. So that the part one wants to compare is not pressed flat, the vertical axis covers
    what comes after the first 15% of the horizontal one; what lies above is cut off at the frame.

    Args:
        series: at least one with points; others are left out.
        title: read out by screen readers, not drawn.
        x_title: what the horizontal axis measures.
        y_title: what the vertical axis measures.
        start: share of the horizontal axis whose values may lie above the frame; 0 shows them all.
        standalone: add the namespace and the styles, for a file of its own.
    """
    drawn = [one for one in series if one.points]
    if not drawn:
        return Markup()
    ends = _ends(drawn)
    margin = min(440, 26 + LETTER * max(len(f"{label} {value:.3f}") for label, _, value, _ in ends))
    first, last = _extent(drawn)
    low, high, _ = shown_range(drawn, start)
    right = WIDTH - margin
    frame = ChartFrame(
        x=Axis(first, last, LEFT, right),
        y=Axis(*padded(low, high), HEIGHT - BOTTOM, TOP),
    )
    number = abs(hash_of(title, drawn)) % 10**8
    draw_axes(frame, x_title, y_title, right)
    shown = f'x="{LEFT - 4}" y="{TOP - 4}" width="{right - LEFT + 8:.1f}" height="{HEIGHT - TOP - BOTTOM + 4}"'
    frame.parts.append(f'<clipPath id="frame-{number}"><rect {shown}/></clipPath>')
    frame.parts.append(f'<g clip-path="url(#frame-{number})">')
    for one in drawn:
        _draw_band(frame, one)
    for one in sorted(drawn, key=lambda one: one.kind != "train"):
        _draw_line(frame, one)
    frame.parts.append("</g>")
    draw_ends(frame, ends, right)
    spoken = "; ".join(f"{label} ends at {value:.3f}" for label, _, value, _ in ends)
    if standalone:
        frame.parts.insert(0, f"<style>{styles()}</style>")
    extra = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    return _svg((WIDTH, HEIGHT), f"{title}: {spoken}", frame.parts, extra=extra)


def series_of(curves: Sequence[Mapping[str, Any]], style: Mapping[str, int]) -> list[LineSeries]:
    """Lines from the curves of a results file; points that are no numbers (a lost step) are left out."""
    found = []
    for curve in curves:
        points = [(float(x), float(y)) for x, y in curve.get("points", ()) if y is not None and math.isfinite(y)]
        label = str(curve.get("label", ""))
        kind = str(curve.get("kind", "valid"))
        found.append(LineSeries(label=label, points=points, kind=kind, style=style.get(label, 0)))
    return found


def hash_of(title: str, series: Sequence[LineSeries]) -> int:
    """A number for names inside the SVG: different charts of a page differ, and the same chart is always the same."""
    return zlib.crc32(repr((title, [(one.label, list(one.points)[-1]) for one in series])).encode())


def _ends(series: Sequence[LineSeries]) -> list[tuple[str, float, float, int]]:
    """Label, last x, last y and style of each label, from its validation curve where it has one."""
    by_label: dict[str, LineSeries] = {}
    for one in series:
        if one.label not in by_label or one.kind == "valid":
            by_label[one.label] = one
    return [(label, one.points[-1][0], one.points[-1][1], one.style) for label, one in by_label.items()]


def shown_range(series: Sequence[LineSeries], start: float = _START) -> tuple[float, float, bool]:
    """Lowest and highest loss that a chart has room for, and whether some of the start lies above."""
    first, last = _extent(series)
    late = [y for one in series for x, y in one.points if x >= first + start * (last - first)]
    values = [y for one in series for _, y in one.points]
    # The end of a line that ends early is what one wants to compare too.
    ends = [one.points[-1][1] for one in series]
    low, high = min(values), max([*late, *ends])
    return low, high, max(values) > padded(low, high)[1]


def _extent(series: Sequence[LineSeries]) -> tuple[float, float]:
    """The horizontal range; from zero when the values begin near it."""
    xs = [x for one in series for x, _ in one.points]
    low, high = min(xs), max(xs)
    low = 0.0 if 0 <= low < 0.2 * high else low
    return low, high if high > low else low + 1


def _draw_band(frame: ChartFrame, one: LineSeries) -> None:
    if len(one.band) < 2:
        return
    above = [f"{frame.x.at(x):.1f} {frame.y.at(high):.1f}" for x, _, high in one.band]
    below = [f"{frame.x.at(x):.1f} {frame.y.at(low):.1f}" for x, low, _ in reversed(one.band)]
    frame.parts.append(f'<path class="band series-{one.style % len(COLOURS)}" d="M{"L".join(above + below)}Z"/>')


def _draw_line(frame: ChartFrame, one: LineSeries) -> None:
    points = _thinned(one.points)
    path = "L".join(f"{frame.x.at(x):.1f} {frame.y.at(y):.1f}" for x, y in points)
    dash = _DASHES[one.style // len(COLOURS) % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    colour = f"series-{one.style % len(COLOURS)}"
    kind = "train" if one.kind == "train" else "valid"
    frame.parts.append(f'<path class="line {kind} {colour}" d="M{path}"{dashed}/>')
    if kind == "train" or len(points) > 60:
        return
    for x, y in points:
        told = f"<title>{escape(one.label)}: {y:.4f} at {short_number(x)}</title>"
        frame.parts.append(
            f'<circle class="mark {colour}" cx="{frame.x.at(x):.1f}" cy="{frame.y.at(y):.1f}" r="3">{told}</circle>'
        )


def _thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most about `most` of the points, evenly, the last one always."""
    stride = -(-len(points) // most)
    return [*points[:-1:stride], points[-1]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScatterPoint:
    """One model; the spread is that of y over seeds."""

    label: str
    x: float
    y: float
    spread: float = 0.0
    style: int = 0


def point_chart(points: Sequence[ScatterPoint], *, title: str, x_title: str, y_title: str = "loss") -> Markup:
    """An SVG element: a mark for each point, with a whisker of its spread, and its name beside the chart.

    Args:
        points: at least one; the horizontal axis begins at zero where that leaves them apart.
        title: read out by screen readers, not drawn.
        x_title: what the horizontal axis measures.
        y_title: what the vertical axis measures.
    """
    if not points:
        return Markup()
    names = [f"{point.label} {point.y:.3f}" for point in points]
    right = WIDTH - min(440, 30 + LETTER * max(map(len, names)))
    xs = [point.x for point in points]
    low = 0.0 if min(xs) < 0.6 * max(xs) or min(xs) == max(xs) else min(xs)
    edges = [point.y + side * point.spread for point in points for side in (-1, 1)]
    frame = ChartFrame(
        x=Axis(*((0.0, max(xs) * 1.05) if low == 0.0 else padded(low, max(xs), 0.12)), LEFT, right),
        y=Axis(*padded(min(edges), max(edges), 0.12), HEIGHT - BOTTOM, TOP),
    )
    draw_axes(frame, x_title, y_title, right)
    wanted = sorted(points, key=lambda point: -point.y)
    places = spaced([frame.y.at(point.y) for point in wanted], _POINT_LINE, TOP + 4, HEIGHT - BOTTOM - 2)
    for point, place in zip(wanted, places, strict=True):
        _draw_point(frame, point, place, right)
    spoken = "; ".join(f"{point.label}: {point.y:.3f} at {short_number(point.x)}" for point in points)
    return _svg((WIDTH, HEIGHT), f"{title}: {spoken}", frame.parts)


def _draw_point(frame: ChartFrame, point: ScatterPoint, place: float, right: float) -> None:
    colour = f"series-{point.style % len(COLOURS)}"
    x, y = frame.x.at(point.x), frame.y.at(point.y)
    if point.spread:
        top, bottom = frame.y.at(point.y + point.spread), frame.y.at(point.y - point.spread)
        frame.parts.append(
            f'<path class="whisker {colour}" d="M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 4:.1f} {top:.1f}h8'
            f'M{x - 4:.1f} {bottom:.1f}h8"/>'
        )
    told = f"{point.label}: {point.y:.4f}" + (f" +- {point.spread:.4f}" if point.spread else "")
    frame.parts.append(
        f'<circle class="mark {colour}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(told)}</title></circle>'
    )
    frame.parts.append(
        f'<path class="lead {colour}" stroke-dasharray="2 4" d="M{x + 8:.1f} {y:.1f}H{right:.1f}L{right + 17:.1f} '
        f'{place:.1f}"/>'
    )
    frame.parts.append(
        f'<text x="{right + 21:.1f}" y="{place + 4:.1f}"><tspan class="name {colour}">{escape(point.label)}</tspan> '
        f'<tspan class="value">{point.y:.3f}</tspan></text>'
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallSeries:
    """One line; the style is the number of its colour."""

    label: str
    points: Sequence[tuple[float, float]]
    style: int = 0

    wide: bool = False
    """Drawn as a broad faint line, so that one that covers it does not hide it."""


def small_chart(
    lines: Sequence[SmallSeries],
    *,
    title: str,
    x_title: str,
    y_title: str,
    log: bool = False,
    mark: float | None = None,
) -> Markup:
    """An SVG element of fixed proportions; empty without points.

    Args:
        lines: drawn over one another, the first below.
        title: above the chart.
        x_title: what the horizontal axis measures.
        y_title: what the vertical axis measures; read out, not drawn.
        log: a logarithmic vertical axis; points that are not positive are left out, and so is rounding noise, values
            below a millionth of the largest.
        mark: where a dashed vertical line stands.
    """
    largest = max((y for line in lines for _, y in line.points), default=0.0)
    floor = largest * 1e-6 if log else -math.inf
    shown = [(line, [(x, y) for x, y in line.points if y > floor]) for line in lines]
    shown = [(line, points) for line, points in shown if points]
    if not shown or (log and largest <= 0):
        return Markup()
    xs = [x for _, points in shown for x, _ in points]
    ys = [math.log10(y) if log else y for _, points in shown for _, y in points]
    x_axis = Axis(*_widened(min(xs), max(xs)), _SMALL_LEFT, SMALL_WIDTH - _RIGHT)
    y_axis = Axis(*padded(min(ys), max(ys)), SMALL_HEIGHT - _BOTTOM, _TOP)
    parts = [f'<text class="value" x="{_SMALL_LEFT}" y="15" font-weight="600">{escape(title)}</text>']
    parts += _small_axes(x_axis, y_axis, x_title, log=log)
    if mark is not None and x_axis.low <= mark <= x_axis.high:
        parts.append(f'<path class="rank" d="M{x_axis.at(mark):.1f} {_TOP}V{SMALL_HEIGHT - _BOTTOM}"/>')
    for line, points in shown:
        path = "L".join(
            f"{x_axis.at(x):.1f} {y_axis.at(math.log10(y) if log else y):.1f}" for x, y in _thinned(points, 200)
        )
        kind = "broad" if line.wide else "valid"
        parts.append(f'<path class="line {kind} series-{line.style % len(COLOURS)}" d="M{path}"/>')
    spoken = f"{title}: {y_title}; {', '.join(line.label for line, _ in shown)}"
    return _svg((SMALL_WIDTH, SMALL_HEIGHT), spoken, parts, kind="chart small")


def _small_axes(x_axis: Axis, y_axis: Axis, x_title: str, *, log: bool) -> list[str]:
    parts = []
    if log:
        decades = range(math.ceil(y_axis.low - 1e-9), math.floor(y_axis.high + 1e-9) + 1)
        values = [float(n) for n in decades]
        if len(values) < 2:
            values = [math.log10(tick) for tick in ticks(10**y_axis.low, 10**y_axis.high, 4) if tick > 0]
        labels = [f"{10**value:.2g}" for value in values]
    else:
        values = ticks(y_axis.low, y_axis.high, 5)
        labels = tick_labels(values)
    for value, label in zip(values, labels, strict=True):
        y = y_axis.at(value)
        parts.append(f'<path class="grid" d="M{_SMALL_LEFT} {y:.1f}H{SMALL_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_SMALL_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    bottom = SMALL_HEIGHT - _BOTTOM
    parts.append(f'<path class="axis" d="M{_SMALL_LEFT} {bottom}H{SMALL_WIDTH - _RIGHT}"/>')
    parts += [
        f'<text x="{x_axis.at(value):.1f}" y="{bottom + 15}" text-anchor="middle">{short_number(value)}</text>'
        for value in ticks(x_axis.low, x_axis.high, 5)
    ]
    middle = (_SMALL_LEFT + SMALL_WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{SMALL_HEIGHT - 3}" text-anchor="middle">{escape(x_title)}</text>')
    return parts


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def heat_map(
    values: Mapping[tuple[int, str], float | None],
    rows: Sequence[int],
    columns: Mapping[str, str],
    *,
    title: str,
    row_title: str = "layer",
    low: float = 0.0,
    high: float | None = None,
) -> Markup:
    """An SVG element: one cell a value, its number in it, darker where it is higher.

    Args:
        values: by row and column key; None or absent cells stay empty.
        rows: from top to bottom.
        columns: key -> title, from left to right.
        title: read out by screen readers, and the start of each cell's remark.
        row_title: what a row is.
        low: value of the lightest shade.
        high: value of the darkest; by default the largest value.
    """
    known = [value for value in values.values() if value is not None]
    top = high if high is not None else max(known, default=0.0)
    width = _MAP_LEFT + _CELL * len(columns)
    height = _HEAD + _ROW * len(rows) + _LEGEND
    parts = [
        f'<text x="{_MAP_LEFT + _CELL * (i + 0.5):.0f}" y="{_HEAD - 10}" text-anchor="middle">{escape(name)}</text>'
        for i, name in enumerate(columns.values())
    ]
    for j, row in enumerate(rows):
        y = _HEAD + _ROW * j
        parts.append(f'<text x="{_MAP_LEFT - 10}" y="{y + 18}" text-anchor="end">{row_title} {row}</text>')
        for i, (key, name) in enumerate(columns.items()):
            told = f"{title}, {row_title} {row}, {name}: "
            parts.append(_cell(values.get((row, key)), _MAP_LEFT + _CELL * i, y, low, top, told))
    parts.append(_shade_legend(height - _LEGEND + 12, low, top))
    largest = f"; highest {shade_text(max(known))}, lowest {shade_text(min(known))}" if known else ""
    extra = f' style="max-width:{width}px;min-width:{min(width, 620)}px"'
    return _svg((width, height), title + largest, parts, kind="chart heat", extra=extra)


def shade_text(value: float) -> str:
    """A number in few letters.

    >>> [shade_text(value) for value in (0, 0.01234, 1, 0.000031, 1e-16, 12.5)]
    ['0', '0.0123', '1', '3.1e-5', '1e-16', '12.5']
    """
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:.3g}"


def _cell(value: float | None, x: float, y: float, low: float, high: float, told: str) -> str:
    if value is None or not math.isfinite(value):
        return (
            f'<text class="value" x="{x + _CELL / 2:.0f}" y="{y + 18}" text-anchor="middle">&#8211;'
            f"<title>{escape(told)}none</title></text>"
        )
    share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0
    kind = "strong" if share > _DARK else "value"
    return (
        f'<g><title>{escape(told)}{value!r}</title><rect class="shade" x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" '
        f'height="{_ROW - 2}" rx="3" fill-opacity="{0.06 + 0.94 * share:.3f}"/>'
        f'<text class="{kind}" x="{x + _CELL / 2:.0f}" y="{y + 18}" text-anchor="middle">{shade_text(value)}</text></g>'
    )


def _shade_legend(y: float, low: float, high: float) -> str:
    if not high > low:
        return ""
    steps = 12
    boxes = "".join(
        f'<rect class="shade" x="{_MAP_LEFT + 1 + 15 * n}" y="{y}" width="15" height="12" '
        f'fill-opacity="{0.06 + 0.94 * n / (steps - 1):.3f}"/>'
        for n in range(steps)
    )
    end = _MAP_LEFT + 15 * steps
    return (
        f'{boxes}<text x="{_MAP_LEFT}" y="{y + 28}">{shade_text(low)}</text>'
        f'<text x="{end}" y="{y + 28}" text-anchor="end">{shade_text(high)}</text>'
    )


def _svg(size: tuple[int, int], label: str, parts: Sequence[str], *, kind: str = "chart", extra: str = "") -> Markup:
    """The element around the parts; every text in them is escaped already."""
    head = f'<svg class="{kind}" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(label)}"{extra}>'
    return Markup("\n".join([head, *parts, "</svg>"]))
