"""Line charts as SVG, drawn by hand: readable in light and dark, on screen and on paper, without any library."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from fallow.report.scale import Axis, padded, short_number, tick_labels, ticks

WIDTH, HEIGHT = 1100, 400
_TOP, _BOTTOM, _LEFT = 16, 46, 56
_LETTER = 7.9
"""Width of a letter of the labels on the wide side, to leave room for the longest."""

_LINE = 19
_START = 0.15
_MOST_POINTS = 600

COLOURS = (
    ("#0b63c4", "#6cb2ff"), ("#c2410c", "#ff9d5c"), ("#0f7b53", "#4fd6a0"), ("#8b35b8", "#d39bff"),
    ("#946200", "#e8c04a"), ("#c01f64", "#ff86b4"), ("#00778a", "#4cd0e0"), ("#555f6e", "#aeb8c7"),
)  # fmt: skip
"""Colours of the series on a light and on a dark ground; told apart with the common kinds of colour blindness too."""

_DASHES = ("", "7 4", "2 3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line of a chart."""

    label: str
    points: Sequence[tuple[float, float]]

    kind: str = "valid"
    """`valid` is drawn strong, with a mark at each value and a label at its end; `train` faint behind it."""

    style: int = 0
    """Number of the colour; series of one model share it over all charts."""


@dataclass(kw_only=True, slots=True)
class _Frame:
    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)


def styles() -> str:
    """CSS of the charts; text and grid follow the page's `--ink`, `--soft` and `--grid` where it sets them."""
    light = " ".join(f"--series-{n}: {colour[0]};" for n, colour in enumerate(COLOURS))
    dark = " ".join(f"--series-{n}: {colour[1]};" for n, colour in enumerate(COLOURS))
    names = "\n".join(f".series-{n} {{ --series: var(--series-{n}); }}" for n in range(len(COLOURS)))
    return f"""\
:root {{ color-scheme: light dark; {light} --chart-ink: #1c2330; --chart-soft: #5a6475; --chart-grid: #e3e7ee; }}
@media (prefers-color-scheme: dark) {{
:root {{ {dark} --chart-ink: #e8ecf3; --chart-soft: #a3adbd; --chart-grid: #2c3442; }}
}}
{names}
.chart {{ width: 100%; height: auto; font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }}
.chart text {{ fill: var(--chart-soft); }}
.chart .axis {{ stroke: var(--chart-soft); stroke-width: 1; }}
.chart .grid {{ stroke: var(--chart-grid); stroke-width: 1; }}
.chart .line {{ stroke: var(--series); fill: none; stroke-linejoin: round; stroke-linecap: round; }}
.chart .valid {{ stroke-width: 2.25; }}
.chart .train {{ stroke-width: 1; opacity: .38; }}
.chart .mark {{ fill: var(--series); }}
.chart .lead {{ stroke: var(--series); stroke-width: 1; opacity: .6; fill: none; }}
.chart .name {{ fill: var(--series); font-weight: 600; }}
.chart .value {{ fill: var(--chart-ink); font-variant-numeric: tabular-nums; }}"""


def line_chart(
    series: Sequence[Series], *, title: str, x_title: str = "tokens", y_title: str = "loss", standalone: bool = False
) -> str:
    """An SVG element: lines, axes, and at the end of each line its name and last value.

    Losses fall steeply at first. So that the part one wants to compare is not pressed flat, the vertical axis covers
    what comes after the first 15% of the horizontal one; what lies above is cut off at the frame.

    Args:
        series: at least one with points; others are left out.
        title: read out by screen readers, not drawn.
        x_title: what the horizontal axis measures.
        y_title: what the vertical axis measures.
        standalone: add the namespace and the styles, for a file of its own.
    """
    drawn = [one for one in series if one.points]
    if not drawn:
        return ""
    ends = _ends(drawn)
    margin = min(440, 26 + _LETTER * max(len(f"{label} {value:.3f}") for label, _, value, _ in ends))
    first, last = _extent(drawn)
    low, high, _ = shown_range(drawn)
    right = WIDTH - margin
    frame = _Frame(
        x=Axis(first, last, _LEFT, right),
        y=Axis(*padded(low, high), HEIGHT - _BOTTOM, _TOP),
    )
    number = abs(hash_of(title, drawn)) % 10**8
    _draw_axes(frame, x_title, y_title, right)
    frame.parts.append(f'<clipPath id="frame-{number}"><rect x="{_LEFT}" y="{_TOP - 4}" width="{right - _LEFT + 4:.1f}"'
                       f' height="{HEIGHT - _TOP - _BOTTOM + 4}"/></clipPath>')  # fmt: skip
    frame.parts.append(f'<g clip-path="url(#frame-{number})">')
    for one in sorted(drawn, key=lambda one: one.kind != "train"):
        _draw_line(frame, one)
    frame.parts.append("</g>")
    _draw_ends(frame, ends, right)
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


def shown_range(series: Sequence[Series]) -> tuple[float, float, bool]:
    """Lowest and highest loss that a chart has room for, and whether some of the start lies above."""
    first, last = _extent(series)
    late = [y for one in series for x, y in one.points if x >= first + _START * (last - first)]
    values = [y for one in series for _, y in one.points]
    low, high = min(values), max(late or values)
    return low, high, max(values) > padded(low, high)[1]


def _extent(series: Sequence[Series]) -> tuple[float, float]:
    """The horizontal range; from zero when the values begin near it."""
    xs = [x for one in series for x, _ in one.points]
    low, high = min(xs), max(xs)
    low = 0.0 if 0 <= low < 0.2 * high else low
    return low, high if high > low else low + 1


def _draw_axes(frame: _Frame, x_title: str, y_title: str, right: float) -> None:
    bottom = HEIGHT - _BOTTOM
    values = ticks(frame.y.low, frame.y.high, 7)
    for value, label in zip(values, tick_labels(values), strict=True):
        y = frame.y.at(value)
        frame.parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right:.1f}"/>')
        frame.parts.append(f'<text x="{_LEFT - 9}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    frame.parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right:.1f}"/>')
    for value in ticks(frame.x.low, frame.x.high, 7):
        x = frame.x.at(value)
        frame.parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        frame.parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{short_number(value)}</text>')
    middle = (_LEFT + right) / 2
    frame.parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    centre = (_TOP + bottom) / 2
    frame.parts.append(
        f'<text x="14" y="{centre}" text-anchor="middle" transform="rotate(-90 14 {centre})">{escape(y_title)}</text>'
    )


def _draw_line(frame: _Frame, one: Series) -> None:
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


def _draw_ends(frame: _Frame, ends: Sequence[tuple[str, float, float, int]], right: float) -> None:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    wanted = sorted(
        (frame.y.at(min(max(y, frame.y.low), frame.y.high)), label, x, y, style) for label, x, y, style in ends
    )
    places = spaced([place for place, *_ in wanted], _LINE, _TOP + 4, HEIGHT - _BOTTOM - 2)
    for (at, label, x, y, style), place in zip(wanted, places, strict=True):
        colour = f"series-{style % len(COLOURS)}"
        end = frame.x.at(x)
        frame.parts.append(
            f'<path class="lead {colour}" d="M{end + 4:.1f} {at:.1f}L{max(end + 5, right + 8):.1f} {at:.1f}'
            f'L{right + 17:.1f} {place:.1f}"/>'
        )
        frame.parts.append(
            f'<text x="{right + 21:.1f}" y="{place + 4:.1f}"><tspan class="name {colour}">{escape(label)}</tspan> '
            f'<tspan class="value">{y:.3f}</tspan></text>'
        )


def spaced(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending positions near the wanted (ascending) ones, at least `gap` apart, from `low` to `high` if they fit.

    >>> spaced([10, 11, 50], 10, 0, 100)
    [10, 20, 50]
    >>> spaced([95, 98], 10, 0, 100)
    [90, 100]
    """
    places: list[float] = []
    for place in wanted:
        places.append(max(place, low) if not places else max(place, places[-1] + gap))
    limit = high
    for i in range(len(places) - 1, -1, -1):
        places[i] = max(min(places[i], limit), low + i * gap)
        limit = places[i] - gap
    return places


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_MOST_POINTS` of the points, evenly, the last one always."""
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:stride], points[-1]]
