"""Small charts, many on a page, of the same kind: for looking across, with one legend for all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fallow.report.frame import COLOURS
from fallow.report.scale import Axis, padded, short_number, tick_labels, ticks

WIDTH, HEIGHT = 300, 205
_TOP, _BOTTOM, _LEFT, _RIGHT = 26, 34, 50, 10
_MOST_POINTS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line; the style is the number of its colour."""

    label: str
    points: Sequence[tuple[float, float]]
    style: int = 0

    wide: bool = False
    """Drawn as a broad faint line, so that one that covers it does not hide it."""


def small_chart(
    lines: Sequence[Line], *, title: str, x_title: str, y_title: str, log: bool = False, mark: float | None = None
) -> str:
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
        return ""
    xs = [x for _, points in shown for x, _ in points]
    ys = [math.log10(y) if log else y for _, points in shown for _, y in points]
    x_axis = Axis(*_spread(min(xs), max(xs)), _LEFT, WIDTH - _RIGHT)
    y_axis = Axis(*padded(min(ys), max(ys)), HEIGHT - _BOTTOM, _TOP)
    parts = [f'<text class="value" x="{_LEFT}" y="15" font-weight="600">{escape(title)}</text>']
    parts += _axes(x_axis, y_axis, x_title, log=log)
    if mark is not None and x_axis.low <= mark <= x_axis.high:
        parts.append(f'<path class="rank" d="M{x_axis.at(mark):.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
    for line, points in shown:
        path = "L".join(f"{x_axis.at(x):.1f} {y_axis.at(math.log10(y) if log else y):.1f}" for x, y in _thinned(points))
        kind = "broad" if line.wide else "valid"
        parts.append(f'<path class="line {kind} series-{line.style % len(COLOURS)}" d="M{path}"/>')
    spoken = f"{title}: {y_title}; {', '.join(line.label for line, _ in shown)}"
    return "\n".join(
        [
            f'<svg class="chart small" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(spoken)}">',
            *parts,
            "</svg>",
        ]
    )


def legend(lines: Sequence[tuple[str, int]]) -> str:
    """The names of the colours as one line of HTML."""
    items = "".join(
        f'<span><span class="dot series-{style % len(COLOURS)}" aria-hidden="true"></span>{escape(label)}</span>'
        for label, style in lines
    )
    return f'<p class="legend">{items}</p>'


def _axes(x_axis: Axis, y_axis: Axis, x_title: str, *, log: bool) -> list[str]:
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
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    bottom = HEIGHT - _BOTTOM
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>')
    parts += [
        f'<text x="{x_axis.at(value):.1f}" y="{bottom + 15}" text-anchor="middle">{short_number(value)}</text>'
        for value in ticks(x_axis.low, x_axis.high, 5)
    ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x_title)}</text>')
    return parts


def _spread(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_MOST_POINTS` of them, evenly, the last one always."""
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:stride], points[-1]]
