"""What all charts share: size, colours, axes, and names beside lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from fallow.report.scale import Axis, short_number, tick_labels, ticks

WIDTH, HEIGHT = 1100, 400
TOP, BOTTOM, LEFT = 16, 46, 56
LETTER = 7.9
"""Width of a letter of the labels on the wide side, to leave room for the longest."""

_LINE = 19

COLOURS = (
    ("#0b63c4", "#6cb2ff"), ("#c2410c", "#ff9d5c"), ("#0f7b53", "#4fd6a0"), ("#8b35b8", "#d39bff"),
    ("#946200", "#e8c04a"), ("#c01f64", "#ff86b4"), ("#00778a", "#4cd0e0"), ("#555f6e", "#aeb8c7"),
)  # fmt: skip
"""Colours of the series on a light and on a dark ground; told apart with the common kinds of colour blindness too."""


@dataclass(kw_only=True, slots=True)
class Frame:
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


def draw_axes(frame: Frame, x_title: str, y_title: str, right: float) -> None:
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


def draw_ends(frame: Frame, ends: Sequence[tuple[str, float, float, int]], right: float) -> None:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    wanted = sorted(
        (frame.y.at(min(max(y, frame.y.low), frame.y.high)), label, x, y, style) for label, x, y, style in ends
    )
    places = spaced([place for place, *_ in wanted], _LINE, TOP + 4, HEIGHT - BOTTOM - 2)
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
