"""What all charts share: size, colours, axes with round ticks, and names beside the ends of lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 1100, 400
TOP, BOTTOM, LEFT = 16, 46, 56
LETTER = 7.9
"""Width of a letter of the labels on the wide side, to leave room for the longest."""

_AXIS_LINE = 19

COLOURS = (
    ("#0b63c4", "#6cb2ff"), ("#c2410c", "#ff9d5c"), ("#0f7b53", "#4fd6a0"), ("#8b35b8", "#d39bff"),
    ("#946200", "#e8c04a"), ("#c01f64", "#ff86b4"), ("#00778a", "#4cd0e0"), ("#555f6e", "#aeb8c7"),
)  # fmt: skip
"""Colours of the series on a light and on a dark ground; told apart with the common kinds of colour blindness too."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values between `low` and `high` to positions between `start` and `end`, which may run backwards."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, at most `most` of them.

    >>> ticks(0, 1.9e6, 5)
    [0.0, 500000.0, 1000000.0, 1500000.0]
    """
    if not low < high:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20, 50, 100):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(n * step, 12) for n in range(first, last + 1)]
    return [low, high]


def padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """A little room around a range; a range of one value gets some too."""
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def short_number(value: float) -> str:
    """A large number with a letter.

    >>> [short_number(v) for v in (0, 950, 1500, 2_000_000, 2.5e9, 26e9)]
    ['0', '950', '1.5k', '2M', '2.5B', '26B']
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def tick_labels(values: list[float]) -> list[str]:
    """Labels of equal precision for the ticks of an axis.

    >>> tick_labels([2.5, 3.0, 3.5])
    ['2.5', '3.0', '3.5']
    """
    if len(values) < 2 or max(map(abs, values)) >= 1000:
        return [short_number(value) for value in values]
    digits = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
    return [f"{value:.{digits}f}" for value in values]


@dataclass(kw_only=True, slots=True)
class ChartFrame:
    """A chart in the making: its axes, and the SVG elements so far."""

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


def draw_axes(frame: ChartFrame, x_title: str, y_title: str, right: float) -> None:
    """Ticks, grid and titles; the plot ends at `right`."""
    bottom = HEIGHT - BOTTOM
    values = ticks(frame.y.low, frame.y.high, 7)
    for value, label in zip(values, tick_labels(values), strict=True):
        y = frame.y.at(value)
        frame.parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right:.1f}"/>')
        frame.parts.append(f'<text x="{LEFT - 9}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    frame.parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right:.1f}"/>')
    for value in ticks(frame.x.low, frame.x.high, 7):
        x = frame.x.at(value)
        frame.parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        frame.parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{short_number(value)}</text>')
    middle = (LEFT + right) / 2
    frame.parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    centre = (TOP + bottom) / 2
    frame.parts.append(
        f'<text x="14" y="{centre}" text-anchor="middle" transform="rotate(-90 14 {centre})">{escape(y_title)}</text>'
    )


def draw_ends(frame: ChartFrame, ends: Sequence[tuple[str, float, float, int]], right: float) -> None:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    wanted = sorted(
        (frame.y.at(min(max(y, frame.y.low), frame.y.high)), label, x, y, style) for label, x, y, style in ends
    )
    places = spaced([place for place, *_ in wanted], _AXIS_LINE, TOP + 4, HEIGHT - BOTTOM - 2)
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
