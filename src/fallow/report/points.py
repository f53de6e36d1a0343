"""Models as points: what each one reached against what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fallow.report.frame import BOTTOM, COLOURS, HEIGHT, LEFT, LETTER, TOP, WIDTH, Frame, draw_axes, spaced
from fallow.report.scale import Axis, padded, short_number

_LINE = 19


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One model; the spread is that of y over seeds."""

    label: str
    x: float
    y: float
    spread: float = 0.0
    style: int = 0


def point_chart(points: Sequence[Point], *, title: str, x_title: str, y_title: str = "loss") -> str:
    """An SVG element: a mark for each point, with a whisker of its spread, and its name beside the chart.

    Args:
        points: at least one; the horizontal axis begins at zero where that leaves them apart.
        title: read out by screen readers, not drawn.
        x_title: what the horizontal axis measures.
        y_title: what the vertical axis measures.
    """
    if not points:
        return ""
    names = [f"{point.label} {point.y:.3f}" for point in points]
    right = WIDTH - min(440, 30 + LETTER * max(map(len, names)))
    xs = [point.x for point in points]
    low = 0.0 if min(xs) < 0.6 * max(xs) or min(xs) == max(xs) else min(xs)
    edges = [point.y + side * point.spread for point in points for side in (-1, 1)]
    frame = Frame(
        x=Axis(*((0.0, max(xs) * 1.05) if low == 0.0 else padded(low, max(xs), 0.12)), LEFT, right),
        y=Axis(*padded(min(edges), max(edges), 0.12), HEIGHT - BOTTOM, TOP),
    )
    draw_axes(frame, x_title, y_title, right)
    wanted = sorted(points, key=lambda point: -point.y)
    places = spaced([frame.y.at(point.y) for point in wanted], _LINE, TOP + 4, HEIGHT - BOTTOM - 2)
    for point, place in zip(wanted, places, strict=True):
        _draw(frame, point, place, right)
    spoken = "; ".join(f"{point.label}: {point.y:.3f} at {short_number(point.x)}" for point in points)
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}: {spoken}")}">'
    return "\n".join([head, *frame.parts, "</svg>"])


def _draw(frame: Frame, point: Point, place: float, right: float) -> None:
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
