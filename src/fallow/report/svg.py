"""Line charts as SVG, drawn by hand: readable in light and dark, on screen and on paper, without any library."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from fallow.report.frame import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    LETTER,
    TOP,
    WIDTH,
    Frame,
    draw_axes,
    draw_ends,
    styles,
)
from fallow.report.scale import Axis, padded, short_number

_START = 0.15
_MOST_POINTS = 600
_DASHES = ("", "7 4", "2 3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
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
    series: Sequence[Series],
    *,
    title: str,
    x_title: str = "tokens",
    y_title: str = "loss",
    start: float = _START,
    standalone: bool = False,
) -> str:
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
        return ""
    ends = _ends(drawn)
    margin = min(440, 26 + LETTER * max(len(f"{label} {value:.3f}") for label, _, value, _ in ends))
    first, last = _extent(drawn)
    low, high, _ = shown_range(drawn, start)
    right = WIDTH - margin
    frame = Frame(
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
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}: {spoken}")}"'
    if standalone:
        head += ' xmlns="http://www.w3.org/2000/svg"'
        frame.parts.insert(0, f"<style>{styles()}</style>")
    return "\n".join([head + ">", *frame.parts, "</svg>"])


def series_of(curves: Sequence[Mapping[str, Any]], style: Mapping[str, int]) -> list[Series]:
    """Series from the curves of a results file; points that are no numbers (a lost step) are left out."""
    found = []
    for curve in curves:
        points = [(float(x), float(y)) for x, y in curve.get("points", ()) if y is not None and math.isfinite(y)]
        label = str(curve.get("label", ""))
        kind = str(curve.get("kind", "valid"))
        found.append(Series(label=label, points=points, kind=kind, style=style.get(label, 0)))
    return found


def hash_of(title: str, series: Sequence[Series]) -> int:
    """A number for names inside the SVG: different charts of a page differ, and the same chart is always the same."""
    return zlib.crc32(repr((title, [(one.label, list(one.points)[-1]) for one in series])).encode())


def _ends(series: Sequence[Series]) -> list[tuple[str, float, float, int]]:
    """Label, last x, last y and style of each label, from its validation curve where it has one."""
    by_label: dict[str, Series] = {}
    for one in series:
        if one.label not in by_label or one.kind == "valid":
            by_label[one.label] = one
    return [(label, one.points[-1][0], one.points[-1][1], one.style) for label, one in by_label.items()]


def shown_range(series: Sequence[Series], start: float = _START) -> tuple[float, float, bool]:
    """Lowest and highest loss that a chart has room for, and whether some of the start lies above."""
    first, last = _extent(series)
    late = [y for one in series for x, y in one.points if x >= first + start * (last - first)]
    values = [y for one in series for _, y in one.points]
    # The end of a line that ends early is what one wants to compare too.
    ends = [one.points[-1][1] for one in series]
    low, high = min(values), max([*late, *ends])
    return low, high, max(values) > padded(low, high)[1]


def _extent(series: Sequence[Series]) -> tuple[float, float]:
    """The horizontal range; from zero when the values begin near it."""
    xs = [x for one in series for x, _ in one.points]
    low, high = min(xs), max(xs)
    low = 0.0 if 0 <= low < 0.2 * high else low
    return low, high if high > low else low + 1


def _draw_band(frame: Frame, one: Series) -> None:
    if len(one.band) < 2:
        return
    above = [f"{frame.x.at(x):.1f} {frame.y.at(high):.1f}" for x, _, high in one.band]
    below = [f"{frame.x.at(x):.1f} {frame.y.at(low):.1f}" for x, low, _ in reversed(one.band)]
    frame.parts.append(f'<path class="band series-{one.style % len(COLOURS)}" d="M{"L".join(above + below)}Z"/>')


def _draw_line(frame: Frame, one: Series) -> None:
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


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_MOST_POINTS` of the points, evenly, the last one always."""
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:stride], points[-1]]
